"""The run folder."""

import json

import numpy as np
import pytest
from matplotlib.figure import Figure

from perceiver_io.training import logging
from perceiver_io.training.logging import RunFolder


def records(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def write(folder, steps):
    for step in steps:
        folder.metrics(step, "train", {"loss": 1.0 / step})
    folder.close()


def test_what_a_run_leaves(tmp_path):
    folder = RunFolder(tmp_path, '{"seed": 0}', None)
    folder.metrics(10, "train", {"loss": 2.0})
    folder.metrics(10, "validation", {"loss": 1.5, "class_accuracy/a": 0.5})
    folder.figures(10, "validation", {"confusion": Figure()})
    folder.histograms(10, {"linear": {"w": np.ones(3)}})
    folder.curves()
    folder.close()
    assert records(tmp_path)[1] == {
        "step": 10,
        "split": "validation",
        "metrics": {"loss": 1.5, "class_accuracy/a": 0.5},
    }
    assert json.loads((tmp_path / "config.json").read_text()) == {"seed": 0}
    assert "jax" in json.loads((tmp_path / "environment.json").read_text())["packages"]
    for picture in ("figures/10/validation_confusion.png", "curves.png"):
        assert (tmp_path / picture).read_bytes().startswith(b"\x89PNG")
    events = next((tmp_path / "tensorboard").iterdir()).read_bytes()
    for tag in (b"validation/loss", b"validation/confusion", b"params/linear/w"):
        assert tag in events


def test_what_is_not_finite_is_null(tmp_path):
    folder = RunFolder(tmp_path, "{}", None)
    folder.metrics(1, "test", {"loss": float("nan"), "norm": float("inf"), "top_1": 0.5})
    folder.metrics(2, "test", {"loss": 1.0})
    folder.curves()
    line = '{"step": 1, "split": "test", "metrics": {"loss": null, "norm": null, "top_1": 0.5}}'
    assert (tmp_path / "metrics.jsonl").read_text().startswith(line + "\n")


def test_curves_have_a_panel_a_metric_and_a_line_a_split(tmp_path):
    folder = RunFolder(tmp_path, "{}", None)
    for step in (1, 2):
        folder.metrics(step, "train", {"loss": 2.0 / step, "loss_label": 0.1})
        folder.metrics(step, "test", {"loss": 1.0 / step, "top_1": 0.5, "class_accuracy/a": 0.5})
    panels = [p for p in logging.draw_curves(tmp_path / "metrics.jsonl").axes if p.lines]
    assert [panel.get_title() for panel in panels] == ["loss", "top 1", "loss label"]
    train, test = panels[0].lines
    np.testing.assert_allclose(train.get_xydata(), [[1, 2.0], [2, 1.0]])
    np.testing.assert_allclose(test.get_xydata(), [[1, 1.0], [2, 0.5]])


def test_records_read_like_one_uninterrupted_run(tmp_path):
    write(RunFolder(tmp_path, "{}", None), [10, 20, 30])
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 40, "spl')  # Killed while writing.
    write(RunFolder(tmp_path, "{}", 20), [30, 40])
    assert [record["step"] for record in records(tmp_path)] == [10, 20, 30, 40]


def test_records_of_a_run_without_a_checkpoint_are_dropped(tmp_path):
    write(RunFolder(tmp_path, "{}", None), [10, 20])
    write(RunFolder(tmp_path, "{}", 0), [10])
    assert [record["step"] for record in records(tmp_path)] == [10]


@pytest.fixture
def clock(monkeypatch):
    """A clock that a test sets: seconds in the only entry."""
    seconds = [0.0]
    monkeypatch.setattr(logging.time, "perf_counter", lambda: seconds[0])
    return seconds


def test_progress_prints_lines_where_there_is_no_terminal(capsys, clock):
    progress = logging.Progress(0, 100, batch_size=8, flops=3e11)
    progress.advance()  # compiles
    clock[0] += 60
    progress.resume()
    for _ in range(9):
        progress.advance()
        clock[0] += 0.5
    speed = progress.report({"loss": 0.25})
    assert speed == pytest.approx(
        {"steps_per_second": 2, "examples_per_second": 16, "tflops_per_device": 0.6}
    )
    assert capsys.readouterr().out == (
        "step 10/100  loss 0.25  16 examples/s  0.6 TFLOP/s a device  2 steps/s  0m45s left\n"
    )


def test_the_progress_bar_shows_the_same(monkeypatch, clock):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    shown = []
    monkeypatch.setattr(logging.tqdm, "set_postfix_str", lambda bar, text: shown.append(text))
    progress = logging.Progress(0, 100, batch_size=8, flops=3e8)
    for _ in range(2):
        clock[0] += 0.5
        progress.advance()
    progress.report({"loss": 0.25})
    progress.close()
    assert shown == ["loss 0.25  16 examples/s  0.6 GFLOP/s a device"]


@pytest.mark.parametrize(
    "flops,shown",
    [
        (1.2345e15, "1230 TFLOP/s"),
        (4.2e11, "0.42 TFLOP/s"),
        (5.125e10, "51.2 GFLOP/s"),
        (2e8, "0.2 GFLOP/s"),
        (1e6, "1 MFLOP/s"),
    ],
)
def test_rates_are_shown_in_a_unit_that_suits(flops, shown):
    assert logging.flop_rate(flops) == shown
