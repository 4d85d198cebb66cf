"""A new task is a folder, a line in the registry and a config: tests/helpers/brightness."""

import json

import numpy as np
import pytest
from PIL import Image

import perceiver_io
from perceiver_io.runtime import configuration, evaluation, prediction, training_run
from perceiver_io.tasks import PREDICTORS, TASKS
from tests.helpers.platforms import trace_for_cpu

pytestmark = pytest.mark.slow

FOLDER = "tests.helpers.brightness"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of the task, which is registered during the test."""
    with pytest.MonkeyPatch.context() as patch:
        trace_for_cpu(patch)
        patch.setitem(TASKS, "brightness", f"{FOLDER}.task.Brightness")
        patch.setitem(PREDICTORS, "brightness", f"{FOLDER}.prediction.BrightnessEstimator")
        workdir = tmp_path_factory.mktemp("brightness")
        config = configuration.load("tests/helpers/brightness/config.py")
        training_run.train(config, workdir)
        yield workdir


def recorded(workdir):
    lines = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    return {(line["step"], line["split"]): line["metrics"] for line in lines}


def test_it_trains_and_evaluates_in_both_ways(run):
    metrics = recorded(run)
    first, last = (metrics[step, "train"]["loss"] for step in (50, 60))
    assert last < first
    assert metrics[60, "validation"].keys() == {"loss", "right"}
    assert 0 < metrics[60, "flat"]["largest_error"] < 1


def test_it_is_evaluated_as_it_was_in_training(run):
    report = evaluation.evaluate(evaluation.of_run(run, "best", None, ()), run)
    assert report.summary["step"] == 60
    for name, values in report.summary["metrics"].items():
        assert values == pytest.approx(recorded(run)[60, name], rel=1e-5)
    assert "largest_error" in report.text


def test_it_predicts_in_python_and_from_files(run, tmp_path):
    images = np.random.default_rng(0).integers(256, size=(3, 8, 8, 1), dtype=np.uint8)
    found = perceiver_io.load(run).predict(images)
    assert found.shape == (3,) and np.isfinite(found).all()
    Image.fromarray(images[0, ..., 0]).save(tmp_path / "a.png")
    flags = {"inputs": [str(tmp_path / "a.png")]}
    prediction.write("brightness", str(run), str(tmp_path / "out"), flags, {})
    written = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert written["brightness"] == pytest.approx(found[:1].tolist(), rel=1e-5)
