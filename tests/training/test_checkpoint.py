"""Checkpoints: what is kept, restored and refused."""

import json
import os
import shutil
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from perceiver_io.data.vision.digits import digits
from perceiver_io.errors import UserError
from perceiver_io.storage import located
from perceiver_io.training import checkpoint as checkpoint_module
from perceiver_io.training import integrity
from perceiver_io.training.checkpoint import Checkpoints
from perceiver_io.training.parallel import Mesh, Pmap, make
from perceiver_io.training.state import TrainState, initial_state, names
from perceiver_io.training.warm_start import checkpoint_source
from scripts._checkpoint_faults import WAYS, flipped, missing
from tests.helpers import tiny


def opened(workdir, keep=2, best_metric="validation/top_1", best_mode="max", every=10):
    return Checkpoints(
        workdir, keep=keep, best_metric=best_metric, best_mode=best_mode, every=every
    )


def new_state(strategy, model=tiny.wide_mlp, optimizer=None, ema=True, seed=0):
    """A template and a state placed by the strategy."""
    optimizer = optimizer or optax.adam(1e-3)

    def initialise():
        params, state = model.init(jax.random.key(seed), inputs=np.zeros((1, tiny.WIDTH)))
        return initial_state(params, state, optimizer, ema=ema)

    template = strategy.template(jax.eval_shape(initialise))
    return template, strategy.adopt(make(initialise, template))


def iterator():
    data = tiny.Dataset().load("train", batch_size=8, training=True, seed=0, shard=(0, 1))
    return iter(data)


def saved_run(tmp_path, model, ema):
    strategy = Mesh(fsdp=1)
    _, state = new_state(strategy, model, ema=ema)
    if ema:
        state = state._replace(ema_params=jax.tree.map(lambda x: x + 1, state.params))
    checkpoints = opened(tmp_path)
    checkpoints.save(strategy.snapshot(state), iterator(), None)
    checkpoints.close()
    return state


def small_state(step):
    return TrainState(jnp.int32(step), {"linear": {"w": jnp.full(3, step)}}, {}, (), None)


def save_all(checkpoints, scores, metric="validation/top_1"):
    for step, score in scores.items():
        checkpoints.save(small_state(step), iterator(), score and {metric: score})
    checkpoints.close()


def test_checkpoints_by_minutes_are_kept_apart_from_those_by_steps(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2, every=10, minutes=5)
    kept = []
    for step in range(1, 37):
        checkpoints._saved_at -= 45  # seconds
        if checkpoints.due(step, None) or checkpoints.overdue():
            checkpoints.save(small_state(step), iterator(), None)
            checkpoints.wait()
            kept.append(checkpoints.steps())
    assert kept == [[7], [10], [10, 17], [10, 20], [10, 20, 27], [20, 30]]
    checkpoints.close()


@pytest.mark.parametrize(
    ("mode", "scores", "kept", "best"),
    [
        ("max", {1: 0.5, 2: 0.9, 3: 0.3, 4: None, 5: 0.1, 6: None}, [2, 5, 6], 2),
        ("min", {1: 0.5, 2: 0.9, 3: 0.3, 4: None, 5: 0.4, 6: None}, [3, 5, 6], 3),
        ("max", {1: None, 2: None, 3: None}, [2, 3], 3),
        ("max", {1: 0.5, 2: float("nan"), 3: float("nan")}, [1, 2, 3], 1),
    ],
)
def test_keeps_the_latest_and_the_best(tmp_path, mode, scores, kept, best):
    save_all(opened(tmp_path, best_mode=mode), scores)
    checkpoints = opened(tmp_path, best_mode=mode)
    assert checkpoints.steps() == kept
    assert checkpoints.best_step() == best
    assert checkpoints.latest_step() == max(scores)


def test_without_a_metric_the_best_is_the_latest(tmp_path):
    save_all(opened(tmp_path, best_metric=None), {1: 0.9, 2: 0.1, 3: 0.2})
    checkpoints = opened(tmp_path, best_metric=None)
    assert checkpoints.steps() == [2, 3]
    assert checkpoints.best_step() == 3


def test_due_at_the_interval_and_when_best(tmp_path):
    checkpoints = opened(tmp_path, every=10)
    assert checkpoints.due(10, None) and not checkpoints.due(11, None)
    assert checkpoints.due(11, {"validation/top_1": 0.1})
    checkpoints.save(small_state(11), iterator(), {"validation/top_1": 0.5})
    assert checkpoints.due(12, {"validation/top_1": 0.6})
    assert not checkpoints.due(12, {"validation/top_1": 0.5})
    checkpoints.close()
    assert not opened(tmp_path, every=10).due(12, {"validation/top_1": 0.5})


def test_an_evaluation_without_the_best_metric_is_never_the_best(tmp_path, capsys):
    checkpoints = opened(tmp_path)
    save_all(checkpoints, {11: 0.1})
    checkpoints = opened(tmp_path)
    assert not checkpoints.due(12, {"validation/loss": 1.0})
    assert "the evaluation of step 12 has no validation/top_1" in capsys.readouterr().out
    checkpoints.save(small_state(12), iterator(), {"validation/loss": 1.0})
    checkpoints.close()
    assert opened(tmp_path).best_step() == 11


STRATEGIES = {"mesh": lambda: Mesh(fsdp=1), "fsdp": lambda: Mesh(fsdp=4), "pmap": Pmap}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("source", "target"), [("fsdp", "pmap"), ("pmap", "fsdp"), ("mesh", "fsdp")]
)
def test_restores_onto_another_strategy(tmp_path, source, target):
    source, target = STRATEGIES[source](), STRATEGIES[target]()
    data = iterator()
    next(data)
    _, saved = new_state(source)
    checkpoints = opened(tmp_path)
    checkpoints.save(source.snapshot(saved), data, None)
    checkpoints.close()
    template, other = new_state(target, seed=1)
    fresh = iterator()
    restored = target.adopt(opened(tmp_path).restore(0, template, fresh))
    assert jax.tree.structure(restored) == jax.tree.structure(other)
    expected = names(source.snapshot(saved))
    for name, value in names(target.snapshot(restored)).items():
        np.testing.assert_array_equal(value, expected[name], name)
    for name, value in names(restored).items():
        assert value.sharding == names(other)[name].sharding, name
    np.testing.assert_array_equal(next(fresh)["index"], next(data)["index"])


@pytest.mark.slow
def test_data_position_with_another_number_of_processes(tmp_path):
    """All processes are at the same position of the same stream."""
    data = iterator()
    next(data), next(data)
    checkpoints = opened(tmp_path)
    checkpoints.save(small_state(2), data, None)
    checkpoints.close()
    folder = tmp_path / "checkpoints" / "2" / "data"
    (folder / "process_0-of-1.json").rename(folder / "process_0-of-8.json")
    template = Mesh(fsdp=1).template(jax.eval_shape(lambda: small_state(2)))
    fresh = iterator()
    opened(tmp_path).restore(2, template, fresh)
    np.testing.assert_array_equal(next(fresh)["index"], next(data)["index"])
    (folder / "process_0-of-8.json").write_text(json.dumps({"workers": 3}))
    with pytest.raises(UserError, match="does not fit this input pipeline"):
        opened(tmp_path).restore(2, template, iterator())


def test_another_batch_size_is_refused(tmp_path):
    dataset = digits(
        mean=(0.3,), std=(0.4,), max_shift=0.1, max_rotation=1.0, max_zoom=0.1, num_workers=0
    )

    def batches(size):
        return iter(dataset.load("train", batch_size=size, training=True, seed=0, shard=(0, 1)))

    checkpoints = opened(tmp_path)
    checkpoints.save(small_state(2), batches(8), None)
    checkpoints.close()
    template = Mesh(fsdp=1).template(jax.eval_shape(lambda: small_state(2)))
    with pytest.raises(UserError, match="The run was at batch 0 of 8 examples"):
        opened(tmp_path).restore(2, template, batches(16))


def test_a_save_that_fails_ends_at_once(tmp_path):
    checkpoints = opened(tmp_path)
    checkpoints.save(small_state(1), iterator(), None)
    checkpoints.wait()
    shutil.rmtree(tmp_path / "checkpoints")
    (tmp_path / "checkpoints").write_text("")
    with pytest.raises(OSError, match="Not a directory"):
        checkpoints.save(small_state(2), iterator(), None)
    checkpoints.close()
    with pytest.raises(UserError, match="checkpoints cannot be written to: File exists"):
        opened(tmp_path).resume_step()


def test_a_write_that_fails_in_the_background_is_reported_before_the_next_save(
    tmp_path, monkeypatch
):
    def fail(directory):
        raise OSError("Input/output error")

    checkpoints = opened(tmp_path)
    checkpoints.save(small_state(1), iterator(), None)
    checkpoints.wait()
    checkpoints.check()
    monkeypatch.setattr(integrity, "seal", fail)
    checkpoints.save(small_state(2), iterator(), None)
    deadline = time.monotonic() + 60
    with pytest.raises(OSError, match="Input/output error"):
        while time.monotonic() < deadline:
            checkpoints.check()
            time.sleep(0.01)
    checkpoints.close()
    assert opened(tmp_path).steps() == [1]


def lose_half_of_the_arrays(folder):
    # Small files hold the index.
    for path in (path for path in folder.rglob("d/*") if path.stat().st_size > 10_000):
        os.truncate(path, path.stat().st_size // 2)


DAMAGES = {
    "list of its arrays cannot be read": lambda folder: (folder / "state" / "_METADATA").unlink(),
    "list of its arrays": lambda folder: shutil.rmtree(folder / "state"),
    "error while reading array": lose_half_of_the_arrays,
    "position in the data is missing": lambda folder: shutil.rmtree(folder / "data"),
}


def test_a_damaged_checkpoint_without_checksums(tmp_path):
    saved_run(tmp_path / "sound", tiny.wide_mlp, ema=False)
    (tmp_path / "sound" / "checkpoints" / "0" / "checksums.json").unlink()
    template, _ = new_state(Mesh(fsdp=1), tiny.wide_mlp, ema=False)
    for number, (message, damage) in enumerate(DAMAGES.items()):
        run = shutil.copytree(tmp_path / "sound", tmp_path / str(number))
        folder = run / "checkpoints" / "0"
        damage(folder)
        with pytest.raises(UserError, match=f"{folder} is damaged: .*{message}.* Remove that"):
            opened(run).restore(0, template, iterator())


# Without it a checkpoint is one of before there were checksums; the others nobody reads.
HARMLESS = {("checksums.json", missing)} | {
    (name, way) for name in ("_CHECKPOINT_METADATA", "commit_success.txt") for way in WAYS
}


def test_whatever_is_damaged_the_checkpoint_before_is_taken(tmp_path, capsys):
    save_all(opened(tmp_path / "sound"), {1: 0.1, 2: 0.2})
    template = Mesh(fsdp=1).template(jax.eval_shape(lambda: small_state(1)))
    latest = tmp_path / "sound" / "checkpoints" / "2"
    names = [str(path.relative_to(latest)) for path in latest.rglob("*") if path.is_file()]
    assert {"checksums.json", "metrics/metrics", "state/_METADATA"} < set(names)
    for name in names:
        for way in WAYS:
            run = shutil.copytree(tmp_path / "sound", tmp_path / "run")
            way(run / "checkpoints" / "2" / name)
            checkpoints = opened(run)
            step = checkpoints.resume_step()
            assert step == (2 if (name, way) in HARMLESS else 1), (name, way)
            said = "the checkpoint of step 2 is damaged (" in capsys.readouterr().out
            assert said == (step == 1)
            assert (run / "checkpoints" / "2.damaged").is_dir() == (step == 1)
            if step == 2 or way is flipped:
                restored = checkpoints.restore(step, template, iterator())
                np.testing.assert_array_equal(restored.params["linear"]["w"], np.full(3, step))
            shutil.rmtree(run)


def test_a_flipped_bit_is_found_wherever_weights_are_read(tmp_path):
    saved_run(tmp_path, tiny.wide_mlp, ema=False)
    folder = tmp_path / "checkpoints" / "0"
    largest = max(folder.rglob("d/*"), key=lambda path: path.stat().st_size)
    flipped(largest)
    with pytest.raises(UserError, match=f"damaged: .*{largest.name} has changed since"):
        checkpoint_source(str(tmp_path))
    with pytest.raises(UserError, match="Every checkpoint in .* is damaged .0: state/"):
        opened(tmp_path).resume_step()
    assert folder.is_dir()


def test_a_checkpoint_of_another_model(tmp_path):
    checkpoints = opened(tmp_path)
    _, state = new_state(Mesh(fsdp=1), tiny.mlp, ema=False)
    checkpoints.save(state, iterator(), None)
    checkpoints.close()
    template, _ = new_state(Mesh(fsdp=1), tiny.stacked, ema=False)
    with pytest.raises(UserError) as error:
        opened(tmp_path).restore(0, template, iterator())
    message = str(error.value)
    assert "missing: params/__layer_stack_no_per_layer/linear/b" in message
    assert "unexpected: " in message and "params/mlp/~/linear_0/w" in message
    template, _ = new_state(Mesh(fsdp=1), tiny.wide_mlp, ema=False)
    with pytest.raises(UserError, match=r"linear_0/w \(6, 16\) instead of \(6, 64\)"):
        opened(tmp_path).restore(0, template, iterator())


def test_another_optimizer_is_named(tmp_path):
    checkpoints = opened(tmp_path)
    _, state = new_state(Mesh(fsdp=1), tiny.mlp, optax.adam(1e-3))
    checkpoints.save(state, iterator(), None)
    checkpoints.close()
    template, _ = new_state(Mesh(fsdp=1), tiny.mlp, optax.sgd(1e-3, momentum=0.9))
    with pytest.raises(UserError, match="missing: opt_state/0/trace/mlp"):
        opened(tmp_path).restore(0, template, iterator())


def test_size_is_that_of_the_arrays():
    template, _ = new_state(Mesh(fsdp=1), tiny.mlp, optax.sgd(0.1), ema=False)
    weights = tiny.WIDTH * 16 + 16 + 16 * tiny.CLASSES + tiny.CLASSES
    assert checkpoint_module.size_in_bytes(template) == 4 * (weights + 1)


def test_in_a_bucket(bucket, capsys):
    run = located("gs://bucket/run")
    scores = {1: 0.1, 2: 0.9, 3: 0.3, 4: 0.2}
    save_all(opened(run, keep=2), scores)
    checkpoints = opened(run)
    assert checkpoints.steps() == [2, 3, 4]
    assert checkpoints.best_step() == 2
    data = iterator()
    found = checkpoints.restore(4, jax.tree.map(jnp.zeros_like, small_state(4)), data)
    np.testing.assert_array_equal(found.params["linear"]["w"], np.full(3, 4))
    # A save that was cut off is not there; one that has changed is set aside.
    del bucket.objects["run/checkpoints/4/commit_success.txt"]
    assert checkpoints.steps() == [2, 3]
    name = next(name for name in bucket.objects if name.startswith("run/checkpoints/3/state/d/"))
    bucket.put(name, b"other")
    assert checkpoints.resume_step() == 2
    said = capsys.readouterr().out
    assert "step 3 is damaged" in said and "moved to gs://bucket/run/checkpoints/3.damaged" in said
    # The step is taken again, over what was left of it.
    save_all(opened(run), {3: 0.5, 4: 0.4})
    assert opened(run).resume_step() == 4


@pytest.mark.parametrize("part", ["state/", "checksums.json"])
def test_an_object_that_is_missing_in_a_bucket(part, bucket):
    run = located("gs://bucket/run")
    save_all(opened(run), {1: 0.1})
    name = next(name for name in bucket.objects if f"/checkpoints/1/{part}" in name)
    del bucket.objects[name]
    with pytest.raises(UserError, match="is missing"):
        checkpoint_source(str(run))


def test_a_checkpoint_is_not_damaged_where_a_bucket_refuses_to_tell(bucket, monkeypatch):
    run = located("gs://bucket/run")
    save_all(opened(run), {1: 0.1})

    def refuse(path):
        raise OSError(f"Forbidden: {path}")

    monkeypatch.setattr(integrity, "checksum", refuse)
    with pytest.raises(OSError, match="Forbidden"):
        opened(run).resume_step()
    assert opened(run).steps() == [1]
