"""The strategies agree with each other and with one device."""

from types import SimpleNamespace

import jax
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec

from perceiver_io.errors import UserError
from perceiver_io.losses import batch_loss
from perceiver_io.tasks.evaluation import EvaluationStep
from perceiver_io.training import parallel
from perceiver_io.training.histograms import histograms
from perceiver_io.training.parallel import Mesh, Pmap
from perceiver_io.training.state import initial_state, names
from perceiver_io.training.step import TrainStep
from tests.helpers import tiny
from tests.helpers.strategies import mesh_of_one_device

BATCH = 16


def train(strategy, model, num_steps=8, accumulate=1):
    """The losses, and a snapshot on the host."""
    optimizer = optax.sgd(0.1, momentum=0.9)

    def initialise():
        params, model_state = model.init(jax.random.key(0), inputs=np.zeros((1, tiny.WIDTH)))
        return initial_state(params, model_state, optimizer, ema=True)

    template = strategy.template(jax.eval_shape(initialise))
    state = strategy.adopt(parallel.make(initialise, template))
    schedule = optax.constant_schedule(0.1)
    step = TrainStep(model, tiny.Task(), optimizer, schedule, 0, accumulate, 0.9)
    compiled = strategy.compile_train(step, state)
    batches = iter(
        tiny.Dataset().load("train", batch_size=BATCH, training=True, seed=0, shard=(0, 1))
    )
    losses = []
    for _ in range(num_steps):
        state, metrics = compiled(state, strategy.place(next(batches)))
        losses.append(float(strategy.fetch(metrics)["loss"]))
    return losses, jax.device_get(strategy.snapshot(state)), state


def one_device(*arguments, **keywords):
    return train(mesh_of_one_device(), *arguments, **keywords)


def assert_same(a, b, rtol=1e-4, atol=1e-5):
    np.testing.assert_allclose(a[0], b[0], rtol=rtol)
    left, right = names(a[1]), names(b[1])
    assert left.keys() == right.keys()
    for name in left:
        np.testing.assert_allclose(left[name], right[name], rtol=rtol, atol=atol, err_msg=name)


@pytest.mark.slow
def test_strategies_and_microbatches_agree():
    alone = one_device(tiny.wide_mlp)
    assert alone[0][-1] < 0.5 * alone[0][0], "it learns, or the comparison would mean little"
    for strategy in (Mesh(fsdp=2), Pmap()):
        assert_same(alone, train(strategy, tiny.wide_mlp, accumulate=2))


@pytest.mark.slow
def test_neither_shards_nor_devices_change_dropout():
    alone, sharded = one_device(tiny.stacked), train(Mesh(fsdp=4), tiny.stacked)
    assert_same(alone, sharded)
    cut = {
        name
        for name, value in names(sharded[2]).items()
        if value.addressable_data(0).size == value.size // 4 and value.size > 1
    }
    name = "__layer_stack_no_per_layer/linear/w"
    assert {f"{part}/{name}" for part in ("params", "ema_params", "opt_state/0/trace")} <= cut
    assert all(
        value.sharding.is_fully_replicated
        for name, value in names(sharded[2]).items()
        if name not in cut
    )


@pytest.mark.slow
def test_batch_norm_is_global_under_mesh_and_per_device_under_pmap():
    """The only documented difference, and its cause."""
    single = one_device(tiny.batch_norm, num_steps=1)
    mesh, pmap = (train(s, tiny.batch_norm, num_steps=1) for s in (Mesh(fsdp=1), Pmap()))
    assert_same(single, mesh)
    assert abs(pmap[0][0] - single[0][0]) > 1e-4 * single[0][0]
    batches = tiny.Dataset().load("train", batch_size=BATCH, training=True, seed=0, shard=(0, 1))
    batch = next(iter(batches))
    variables = jax.jit(tiny.batch_norm.init)(jax.random.key(0), inputs=batch["x"])

    @jax.jit
    def alone(part):
        outputs, state = tiny.batch_norm.apply(*variables, None, inputs=part["x"], is_training=True)
        return batch_loss(tiny.Task(), outputs, part), state

    losses, means = [], []
    for rows in np.arange(BATCH).reshape(4, -1):
        loss, state = alone({name: array[rows] for name, array in batch.items()})
        losses.append(loss)
        means.append(names(state)["conv_stem/batch_norm/~/mean_ema/average"])
    np.testing.assert_allclose(pmap[0][0], np.mean(losses), rtol=1e-5)
    running = names(pmap[1].model_state)["conv_stem/batch_norm/~/mean_ema/average"]
    np.testing.assert_allclose(running, np.mean(means, 0), rtol=1e-4, atol=1e-6)
    for name, replicas in names(jax.device_get(pmap[2])).items():
        assert replicas.shape[0] == 4
        np.testing.assert_array_equal(replicas, np.broadcast_to(replicas[:1], replicas.shape), name)


def test_fsdp_does_not_shard_the_layer_axis():
    name = "params/__layer_stack_no_per_layer/linear/w"
    template = Mesh(fsdp=4).template({name: jax.ShapeDtypeStruct((64, 32, 48), np.float32)})
    assert template[name].sharding.spec == PartitionSpec(None, None, "fsdp")


@pytest.mark.parametrize("strategy", [Mesh(fsdp=2), Pmap()])
def test_evaluation_gathers_all_rows_in_order(strategy):
    params, state = tiny.mlp.init(jax.random.key(0), inputs=np.zeros((1, tiny.WIDTH)))
    step = EvaluationStep(tiny.mlp, tiny.Task())
    template = strategy.template(jax.eval_shape(lambda: (params, state)))
    placed = strategy.adopt(parallel.make(lambda: (params, state), template))
    batch = tiny.take(tiny.examples("train"), np.arange(13), 16)
    evaluate = strategy.compile_evaluation(step)
    sums, predictions, outputs = evaluate(*placed, strategy.place(batch))
    expected_sums, _, expected_outputs = step(params, state, batch)
    predictions = strategy.fetch(predictions)
    np.testing.assert_array_equal(predictions["index"], batch["index"])
    np.testing.assert_array_equal(predictions["valid"], batch["valid"])
    np.testing.assert_allclose(strategy.fetch_rows(outputs), expected_outputs, rtol=1e-5)
    total, count = strategy.fetch(sums)["loss"]
    np.testing.assert_allclose(total, expected_sums["loss"][0], rtol=1e-5)
    assert count == 13


@pytest.mark.parametrize("fsdp", [3, 8])
def test_too_few_devices_for_the_mesh(fsdp):
    with pytest.raises(UserError, match=f"config.parallel.fsdp is {fsdp}, but there are 4 devices"):
        Mesh(fsdp=fsdp)


@pytest.mark.parametrize(
    ("size", "accumulate", "near"), [(30, 1, r"28 or 32\."), (8, 4, r"16\."), (0, 1, r"4\.")]
)
def test_batch_that_does_not_divide(size, accumulate, near):
    with pytest.raises(UserError, match=f"batch_size is {size}.*such as {near}"):
        parallel.local_batch_size(size, accumulate, 4)


@pytest.mark.parametrize(("fsdp", "sequence"), [(1, 3), (2, 4)])
def test_too_few_devices_for_groups_that_share_examples(fsdp, sequence):
    message = f"sequence is {sequence} and config.parallel.fsdp {fsdp}, but there are 4 devices"
    with pytest.raises(UserError, match=message):
        Mesh(fsdp=fsdp, sequence=sequence)


def test_devices_that_share_examples_are_of_one_host():
    hosts = np.array([SimpleNamespace(process_index=index // 2) for index in range(4)])
    parallel.check_groups(hosts.reshape(2, 1, 2))
    with pytest.raises(UserError, match="sequence is 4, but some groups .* on several hosts"):
        parallel.check_groups(hosts.reshape(1, 1, 4))


def test_an_example_is_split_along_the_first_axis_that_divides():
    mesh = Mesh(fsdp=1, sequence=2)
    batch = {"frames": np.ones((2, 3, 8, 6, 3)), "points": np.ones((4, 10, 3)), "label": np.ones(2)}
    parts = {name: x.sharding.shard_shape(x.shape) for name, x in mesh.place(batch).items()}
    assert parts == {"frames": (1, 3, 4, 6, 3), "points": (2, 5, 3), "label": (1,)}
    rows = mesh.place({"x": np.arange(4)})
    np.testing.assert_array_equal(mesh.fetch_rows(rows)["x"], np.arange(4))


def test_an_axis_may_be_a_part_of_one_of_the_slice():
    """8 shards on a slice of 4x4x4, whose neighbours differ by 1 in one coordinate."""
    places = [(x, y, z) for x in range(4) for y in range(4) for z in range(4)]
    chips = [
        SimpleNamespace(
            id=i, platform="tpu", device_kind="TPU v5", coords=place, core_on_chip=0,
            process_index=0, slice_index=0,
        )
        for i, place in enumerate(places)
    ]  # fmt: skip
    grid = parallel.arranged(chips, (8, 8, 1))
    assert grid.shape == (8, 8, 1)
    assert {chip.id for chip in grid.flat} == set(range(64))
    together = np.array([chip.coords for chip in grid[0, :, 0]])
    assert sorted(np.ptp(together, axis=0)) == [0, 1, 3]


@pytest.mark.parametrize("strategy", [Mesh(fsdp=4), Pmap()], ids=["mesh", "pmap"])
def test_parameters_are_counted_and_copied_without_a_host_that_has_all(strategy):
    values = np.linspace(-1, 3, 64 * 32, dtype=np.float32).reshape(64, 32)
    params = {"linear": {"w": values}}
    template = strategy.template(jax.eval_shape(lambda: params))
    placed = strategy.adopt(parallel.make(lambda: params, template))
    copy = strategy.replica(placed)["linear"]["w"]
    assert len(copy.devices()) == 1
    np.testing.assert_array_equal(copy, values)
    (found,) = strategy.fetch(strategy.compile_summary(histograms)(placed)).values()
    counts, edges = np.histogram(values, 64)
    np.testing.assert_allclose(found.limits, edges[1:], atol=1e-6)
    # A value at an edge may fall on either side.
    np.testing.assert_allclose(found.counts, counts, atol=2)
    assert (found.counts.sum(), found.least) == (values.size, values.min())
    np.testing.assert_allclose(found[3:], [values.sum(), np.square(values).sum()], rtol=1e-5)
