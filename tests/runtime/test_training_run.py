"""Training, called as a library."""

import errno
import signal
from pathlib import Path

import jax
import numpy as np
import pytest

from perceiver_io.errors import UserError
from perceiver_io.runtime import configuration, description, setup
from perceiver_io.runtime.training_run import Run, train
from perceiver_io.training import goodput, integrity
from perceiver_io.training.checkpoint import Checkpoints
from perceiver_io.training.parallel import Mesh
from perceiver_io.training.profiling import Profiler
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
def run_and_fetched(tmp_path_factory):
    """A run of two steps, and the shapes of all arrays that it brought together on the host."""
    folder, shapes = tmp_path_factory.mktemp("run"), set()
    fetch = Mesh.fetch

    def recording(self, tree):
        shapes.update(np.shape(x) for x in jax.tree.leaves(tree))
        return fetch(self, tree)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Mesh, "fetch", recording)
        train(config(2, "logging.histograms=True"), folder)
    return folder, shapes


@pytest.fixture(scope="module")
def run(run_and_fetched):
    return run_and_fetched[0]


@pytest.mark.slow
def test_no_host_brings_parameters_together(run_and_fetched):
    folder, fetched = run_and_fetched
    matrices = {x.shape for x in arrays(folder, 2).values() if x.ndim > 1}
    assert matrices and matrices.isdisjoint(fetched)
    assert () in fetched and (64,) in fetched, "metrics and histograms"


@pytest.mark.slow
def test_a_finished_run_says_so(run, capsys):
    before = (run / "metrics.jsonl").read_text()
    train(config(2), run)
    out = capsys.readouterr().out
    assert "this run is finished: it has taken 2 steps, and config.training.steps is 2." in out
    assert "experiments.evaluate evaluates the run" in out and "resuming" not in out
    assert (run / "metrics.jsonl").read_text() == before


@pytest.mark.slow
def test_the_seconds_of_a_run_are_recorded(run):
    records = goodput.read(run / goodput.FILE)
    assert {record.attempt for record in records} == {0}
    assert [record.step for record in records] == sorted(record.step for record in records)
    seconds = description.time_spent(run)["seconds"]
    spent = {name for name, value in seconds.items() if value > 0}
    assert spent == {"start", "compile", "data", "step", "evaluation", "checkpoint"}
    assert sum(seconds.values()) == pytest.approx(sum(records[-1].seconds.values()))


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


# The first four steps take one, one, two and two microbatches, the others all three.
GROWING = (
    f"model={MODEL | {'widths': ()}}",
    "training.batch_size=12",
    "training.accumulate=3",
    "training.batch_ramp=0.67",
    "task.label_smoothing=0.0",
    "optimizer={'name': 'sgd', 'weight_decay': 0.0, 'momentum': 0.0, 'clip_norm': None}",
    "schedule={'name': 'constant', 'peak': 1.0}",
)
GROWING_SIZES = [4, 4, 8, 8, 12, 12]


def begun(workdir, *overrides):
    """A run whose batches grow, before its next step."""
    return Run(config(6, *GROWING, *overrides), workdir, Profiler(workdir, 0, 0), ())


def weights_after(run, steps):
    for step in range(run.start + 1, steps + 1):
        run.take_step(step)
    return run.parts.strategy.fetch(run.state.params)["logits"]


def plain_gradient_descent(weights, examples):
    """Logistic regression on the brightness of images, in batches of the sizes above."""
    start = 0
    for size in GROWING_SIZES:
        batch = {name: array[start : start + size] for name, array in examples.items()}
        brightness = (batch["image"].mean((1, 2)) / 255 - 0.3) / 0.38
        logits = brightness @ weights["w"] + weights["b"]
        error = np.exp(logits) / np.exp(logits).sum(1, keepdims=True) - np.eye(10)[batch["label"]]
        gradients = {"w": brightness.T @ error / size, "b": error.mean(0)}
        weights = {name: weights[name] - gradients[name] for name in weights}
        start += size
    return weights


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["mesh", "pmap"])
def test_a_batch_that_grows_is_learned_from_as_a_whole(tmp_path, strategy):
    run = begun(tmp_path, f"parallel={{'name': '{strategy}'}}")
    initial = weights_after(run, 0)
    stream = setup.training_iterator(config(6, "training.batch_size=48"), run.parts)
    expected = plain_gradient_descent(initial, next(stream))
    found = weights_after(run, 6)
    run.close()
    for name in ("w", "b"):
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_a_run_resumes_while_its_batch_grows(tmp_path):
    whole = begun(tmp_path / "whole")
    expected = weights_after(whole, 6)
    whole.close()
    first = begun(tmp_path / "parts")
    weights_after(first, 3)
    first.save(None)
    first.close()
    second = begun(tmp_path / "parts")
    assert second.start == 3
    found = weights_after(second, 6)
    second.close()
    np.testing.assert_equal(found, expected)
