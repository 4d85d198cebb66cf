"""The run folder."""

import json

import numpy as np
from matplotlib.figure import Figure

from perceiver_io.training import logging
from perceiver_io.training.histograms import histograms
from perceiver_io.training.logging import RunFolder


def records(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def write(folder, steps):
    for step in steps:
        folder.metrics(step, "train", {"loss": 1.0 / step})
    folder.close()


def test_numbers_that_json_does_not_know_are_null():
    record = {"a": [1.5, float("nan"), ("x", {"b": -float("inf")})]}
    assert json.loads(logging.to_json(record)) == {"a": [1.5, None, ["x", {"b": None}]]}
    assert logging.to_json({"\u00e4": 1}, ensure_ascii=False) == '{"\u00e4": 1}'


def test_contents_of_a_run_folder(tmp_path):
    folder = RunFolder(tmp_path, {"config.json": '{"seed": 0}'}, None)
    folder.metrics(10, "train", {"loss": 2.0})
    folder.metrics(10, "validation", {"loss": 1.5, "class_accuracy/a": 0.5}, "c0ffee")
    folder.figures(10, "validation", {"confusion": Figure()})
    folder.histograms(10, histograms({"linear": {"w": np.ones(3)}}))
    folder.curves()
    folder.close()
    assert records(tmp_path)[1] == {
        "step": 10,
        "split": "validation",
        "metrics": {"loss": 1.5, "class_accuracy/a": 0.5},
        "manifest_sha256": "c0ffee",
    }
    assert json.loads((tmp_path / "config.json").read_text()) == {"seed": 0}
    assert "jax" in json.loads((tmp_path / "environment.json").read_text())["packages"]
    for picture in ("figures/10/validation_confusion.png", "curves.png"):
        assert (tmp_path / picture).read_bytes().startswith(b"\x89PNG")
    events = next((tmp_path / "tensorboard").iterdir()).read_bytes()
    for tag in (b"validation/loss", b"validation/confusion", b"params/linear/w"):
        assert tag in events


def test_non_finite_values_are_null(tmp_path):
    folder = RunFolder(tmp_path, {}, None)
    folder.metrics(1, "test", {"loss": float("nan"), "norm": float("inf"), "top_1": 0.5})
    folder.metrics(2, "test", {"loss": 1.0})
    folder.curves()
    line = '{"step": 1, "split": "test", "metrics": {"loss": null, "norm": null, "top_1": 0.5}}'
    assert (tmp_path / "metrics.jsonl").read_text().startswith(line + "\n")


def test_curves_have_a_panel_per_metric_and_a_line_per_split(tmp_path):
    folder = RunFolder(tmp_path, {}, None)
    for step in (1, 2):
        folder.metrics(step, "train", {"loss": 2.0 / step, "loss_label": 0.1})
        folder.metrics(step, "test", {"loss": 1.0 / step, "top_1": 0.5, "class_accuracy/a": 0.5})
    panels = [p for p in logging.draw_curves(tmp_path / "metrics.jsonl").axes if p.lines]
    assert [panel.get_title() for panel in panels] == ["loss", "top 1", "loss label"]
    train, test = panels[0].lines
    np.testing.assert_allclose(train.get_xydata(), [[1, 2.0], [2, 1.0]])
    np.testing.assert_allclose(test.get_xydata(), [[1, 1.0], [2, 0.5]])


def test_a_single_evaluation_is_a_point_on_a_horizontal_line(tmp_path):
    folder = RunFolder(tmp_path, {}, None)
    for step in range(100):
        folder.metrics(step, "train", {"loss": 2.0})
    folder.metrics(100, "test", {"loss": 0.5})
    (panel,) = [p for p in logging.draw_curves(tmp_path / "metrics.jsonl").axes if p.lines]
    train, test, across = panel.lines
    assert train.get_marker() == "None" and test.get_marker() == "o"
    np.testing.assert_array_equal(across.get_ydata(), [0.5, 0.5])
    assert panel.get_xlim()[0] == 0


def test_records_read_like_one_uninterrupted_run(tmp_path):
    write(RunFolder(tmp_path, {}, None), [10, 20, 30])
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 40, "spl')  # Killed while writing.
    write(RunFolder(tmp_path, {}, 20), [30, 40])
    assert [record["step"] for record in records(tmp_path)] == [10, 20, 30, 40]


def test_a_damaged_line_is_left_out_and_said(tmp_path, capsys):
    write(RunFolder(tmp_path, {}, None), [10, 20, 30])
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"step": 20', b'"step\xff: 20'))
    folder = RunFolder(tmp_path, {}, 30)
    folder.curves()
    write(folder, [40])
    assert [record["step"] for record in records(tmp_path)] == [10, 30, 40]
    assert capsys.readouterr().out == f"line 2 of {path} is damaged and was skipped\n"


def test_a_flush_hands_over_every_event(tmp_path):
    folder = RunFolder(tmp_path, {}, None)
    for step in range(1, 101):
        folder.metrics(step, "train", {"loss": 1.0 / step})
    folder.flush()
    events = next((tmp_path / "tensorboard").iterdir()).read_bytes()
    assert events.count(b"train/loss") == 100


def test_records_of_a_run_without_a_checkpoint_are_dropped(tmp_path):
    write(RunFolder(tmp_path, {}, None), [10, 20])
    write(RunFolder(tmp_path, {}, 0), [10])
    assert [record["step"] for record in records(tmp_path)] == [10]
