"""Compiled steps in files, here for the devices that there are."""

import contextlib
import json
from types import SimpleNamespace

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache

from perceiver_io.errors import UserError
from perceiver_io.runtime import configuration
from perceiver_io.runtime.plan import planning, saved_step
from perceiver_io.runtime.plan.machines import Slice
from perceiver_io.runtime.training_run import train
from perceiver_io.training.parallel import Mesh, Pmap
from tests.runtime.plan.test_planning import MACHINE
from tests.runtime.plan.test_planning import config as small_config


def config(*overrides):
    """Two steps on handwritten digits."""
    settings = (
        "training.steps=2",
        "schedule.warmup_steps=0",
        "evaluation.every=2",
        "logging.every=1",
        *overrides,
    )
    shared = [*settings, "data.num_workers=0", "checkpoint.best_metric=None"]
    return configuration.overridden(small_config(), [f"--config.{x}" for x in shared])


@contextlib.contextmanager
def without_cache():
    """Compiles anew, as `experiments.plan` does."""
    jax.config.update("jax_enable_compilation_cache", False)
    compilation_cache.reset_cache()
    yield
    jax.config.update("jax_enable_compilation_cache", True)
    compilation_cache.reset_cache()


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """The step of `config()`."""
    slice_ = Slice("cpu:4", MACHINE, jax.devices())
    with without_cache():
        plan = planning.plan(config(), planning.own_settings(config()), slice_)
    path = tmp_path_factory.mktemp("saved") / "step"
    saved_step.save(path, *plan.step, slice_.devices)
    return path


def losses(run):
    """Of each training step, and of the evaluation after the last one."""
    records = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [record["metrics"]["loss"] for record in records]


@pytest.mark.slow
def test_training_uses_it_and_has_the_same_losses(saved, tmp_path, monkeypatch):
    train(config(), tmp_path / "compiled_here")
    loaded = []
    load = saved_step.serialize_executable.deserialize_and_load

    def counted(*arguments, **keywords):
        step = load(*arguments, **keywords)
        return lambda *given: (loaded.append(step), step(*given))[1]

    monkeypatch.setattr(saved_step.serialize_executable, "deserialize_and_load", counted)
    train(config(), tmp_path / "saved", compiled_step=saved)
    assert len(loaded) == 2
    assert losses(tmp_path / "saved") == losses(tmp_path / "compiled_here")
    assert len(losses(tmp_path / "saved")) == 3


def test_another_setting_is_named(saved, tmp_path):
    changed = config("optimizer.weight_decay=0.5", "logging.every=2")
    with pytest.raises(
        UserError, match=r"training: config.optimizer.weight_decay was .*, is 0.5\."
    ):
        train(changed, tmp_path / "run", compiled_step=saved)


def test_other_circumstances_are_named(saved, tmp_path):
    lowered = SimpleNamespace(as_text=lambda: "another")
    with pytest.raises(UserError, match="this version of the code has another step"):
        saved_step.load(saved, lowered, config())
    first, _, rest = saved.read_bytes().partition(b"\n")
    other = json.loads(first) | {"jax": "0.1", "devices": 3}
    path = tmp_path / "step"
    path.write_bytes(json.dumps(other).encode() + b"\n" + rest)
    with pytest.raises(UserError, match=r"jax was 0.1, is .*; devices was 3, is 4\. Make them"):
        saved_step.load(path, lowered, config())
    path.write_bytes(b"junk")
    with pytest.raises(UserError, match="is damaged, or was not written by"):
        saved_step.load(path, lowered, config())
    with pytest.raises(UserError, match="Cannot read --compiled_step=.*missing: No such file"):
        saved_step.load(tmp_path / "missing", lowered, config())


@pytest.mark.parametrize(
    "strategy, override, num_sizes, message",
    [
        (Pmap, "seed=1", 1, "only steps of config.parallel.name=mesh"),
        (Mesh, "training.batch_ramp=0.5", 1, "so batches grow"),
        (Mesh, "seed=1", 2, "batches of 2 sizes"),
    ],
)
def test_trainings_without_a_single_step(strategy, override, num_sizes, message):
    with pytest.raises(UserError, match=message):
        saved_step.mesh_of(strategy(), config(override), num_sizes)
