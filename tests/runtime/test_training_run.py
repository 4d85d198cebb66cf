"""Training, called as a library."""

import errno
import signal
from pathlib import Path

import numpy as np
import pytest

from perceiver_io.errors import UserError
from perceiver_io.runtime import configuration
from perceiver_io.runtime.training_run import train
from perceiver_io.training import integrity
from perceiver_io.training.checkpoint import Checkpoints
from tests.helpers.programs import arrays, saved_steps

MODEL = dict(
    name="convnet_classifier", num_classes=10, widths=(4,), image_size=(8, 8), image_channels=1
)


def config(steps, *overrides):
    """Handwritten digits for so many steps, with a small model."""
    return configuration.load(
        "configs/quickstart.py",
        [
            f"--config.{setting}"
            for setting in (
                f"model={MODEL}",
                "data.num_workers=0",
                "training.batch_size=8",
                f"training.steps={steps}",
                f"evaluation.every={steps}",
                "checkpoint.best_metric=None",
                *overrides,
            )
        ],
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of two steps."""
    folder = tmp_path_factory.mktemp("run")
    train(config(2), folder)
    return folder


@pytest.mark.slow
def test_a_finished_run_says_so(run, capsys):
    before = (run / "metrics.jsonl").read_text()
    train(config(2), run)
    out = capsys.readouterr().out
    assert "this run is finished: it has taken 2 steps, and config.training.steps is 2." in out
    assert "experiments.evaluate evaluates the run" in out and "resuming" not in out
    assert (run / "metrics.jsonl").read_text() == before


@pytest.mark.parametrize("steps", [(2, 3), (3, 3), (2, 1), (0, 1)])
def test_steps_to_profile_are_steps_of_the_training(tmp_path, steps):
    with pytest.raises(UserError, match=rf"--profile_steps={steps[0]},{steps[1]} must be .* to 2,"):
        train(config(2), tmp_path / "run", steps)
    assert not (tmp_path / "run").exists()


def test_a_folder_that_cannot_be_created():
    with pytest.raises(UserError, match="/dev/null/run cannot be written to"):
        train(config(2), Path("/dev/null/run"))


@pytest.mark.slow
def test_a_loss_that_is_not_finite_stops_the_run(tmp_path):
    # The weight decay multiplies the weights by a large number at every step.
    flags = ("schedule.peak=1.0", "schedule.warmup_steps=10", "optimizer.weight_decay=1e6")
    with pytest.raises(UserError) as error:
        train(config(100, *flags, "checkpoint.every=1"), tmp_path)
    message, latest = str(error.value), max(saved_steps(tmp_path))
    assert message.startswith("Training stopped: step ") and "config.seed=0" in message
    assert f"The last good checkpoint: {tmp_path}/checkpoints/{latest}." in message
    assert all(np.isfinite(value).all() for value in arrays(tmp_path, latest).values())


def test_a_failed_write_ends_training_before_the_next_save(tmp_path, monkeypatch):
    def fail(directory):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(integrity, "seal", fail)
    monkeypatch.setattr(Checkpoints, "due", lambda self, step, metrics: step == 1)
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with pytest.raises(UserError, match=f"The disk of {tmp_path} is full"):
        train(config(1_000_000), tmp_path)
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
