"""CoAtNet: settings, several resolutions, stochastic depth, batch norm, wrong settings."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from perceiver_io.errors import UserError
from perceiver_io.models.architectures import build
from perceiver_io.models.layers import stochastic_depth
from perceiver_io.training.state import names
from perceiver_io.training.warm_start import array_source, load_weights
from tests.helpers import oracles
from tests.helpers.architectures import images, initialised

pytestmark = pytest.mark.usefixtures("for_cpu")

CONV = dict(
    name="coatnet_classifier",
    num_classes=5,
    image_size=(8, 8),
    stem=dict(name="convolutions", widths=(4, 4)),
    layout="C",
    depths=(2,),
    widths=(8,),
)
# Relative attention on a grid of 4x4, after patches of 2x2.
ATTENTION = CONV | dict(
    stem=dict(name="patches", patch_size=2, width=8), layout="T", blocks=dict(head_size=4)
)


def shapes(section, **blocks):
    params, state = build(section | dict(blocks=section.get("blocks", {}) | blocks)).shapes()
    return {name: array.shape for name, array in names({"params": params, "state": state}).items()}


def test_settings_change_the_parts_that_they_name():
    conv, attention = shapes(CONV), shapes(ATTENTION)
    first, others = "params/stage_1/first", "params/stage_1/__layer_stack_with_per_layer/block"
    assert conv[f"{first}/expand/w"] == (4, 32) and conv[f"{others}/expand/w"] == (1, 8, 32)
    assert conv[f"{first}/squeeze/w"] == (32, 2) and conv[f"{first}/depthwise/w"] == (3, 3, 1, 32)
    assert f"{first}/shortcut/w" in conv and f"{others}/shortcut/w" not in conv
    assert shapes(CONV, expand_from="input", squeeze_from="hidden")[f"{first}/squeeze/w"] == (16, 4)
    assert not any(name.startswith("state/stage") for name in shapes(CONV, conv_norm="layer"))
    assert conv.keys() - shapes(CONV, conv_bias=False).keys() == {
        f"{first}/project/b", f"{first}/shortcut/b", f"{others}/project/b",
    }  # fmt: skip
    assert attention[f"{first}/attention/table"] == (49, 2)
    assert attention.keys() - shapes(ATTENTION, relative_bias="none").keys() == {
        f"{first}/attention/table", f"{others}/attention/table",
    }  # fmt: skip
    assert f"{first}/attention_scale" in shapes(ATTENTION, layer_scale=True)
    widening = ATTENTION | dict(widths=(12,))
    assert shapes(widening)[f"{first}/attention/query/w"] == (8, 12)
    narrow = shapes(widening, widen_at="output")
    assert narrow[f"{first}/attention/query/w"] == (8, 8)
    assert narrow[f"{first}/attention/output/w"] == (8, 12)


@pytest.mark.parametrize("stride", ["expansion", "depthwise", "pooling"])
@pytest.mark.parametrize("pooling", ["max", "average"])
def test_odd_sides_are_halved_and_rounded_up(stride, pooling):
    section = CONV | dict(depths=(1,), blocks=dict(stride=stride, pooling=pooling))
    model = build(section)
    params, state = model.shapes()
    x = jax.ShapeDtypeStruct((2, 13, 6, 3), jnp.float32)  # 7x3 after the stem, then 4x2
    apply = functools.partial(model.apply, is_training=False)
    logits, _ = jax.eval_shape(lambda p, s, x: apply(p, s, None, inputs=x), params, state, x)
    assert logits.shape == (2, 5)


def test_several_resolutions_in_one_run():
    """Each is compiled once; every entry of the tables has a gradient at each."""
    section = ATTENTION | dict(depths=(1,))
    model, params, state = initialised(section, images(8, 8))
    traced = []

    @jax.jit
    def gradient(params, x):
        traced.append(x.shape)

        def loss(params):
            logits, _ = model.apply(params, state, None, inputs=x, is_training=True)
            return jnp.square(logits).sum()

        return jax.grad(loss)(params)

    sizes = [(6, 4), (8, 8), (10, 12)]
    for size in sizes * 2:
        table = gradient(params, images(*size))["stage_1/first/attention"]["table"]
        assert np.abs(table).min() > 0
    assert [shape[1:3] for shape in traced] == sizes


def test_a_warm_start_at_another_resolution_gives_the_same():
    """Tables are resized once, in place of each time: those of stacked blocks, too."""
    model, params, state = initialised(ATTENTION, images(8, 8))
    larger = images(12, 10)
    other = build(ATTENTION | dict(image_size=(12, 10)))
    place = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    template = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), other.shapes()[0]
    )
    grids = model.position_tables(), other.position_tables()
    warm = load_weights(array_source("file", params, {}), template, {}, grids=grids)
    assert len(warm.resized) == 2

    @functools.partial(jax.jit, static_argnums=0)
    def evaluate(model, params):
        return model.apply(params, state, None, inputs=larger, is_training=False)[0]

    oracles.assert_close(evaluate(model, params), evaluate(other, warm.params))


def test_stochastic_depth_is_for_training_and_grows_from_zero():
    section = ATTENTION | dict(depths=(2,), blocks=dict(head_size=4, stochastic_depth=0.99))
    model, params, state = initialised(section, images(8, 8))
    # Without the second block, only the first is left, which is never dropped.
    second = "stage_1/__layer_stack_with_per_layer/block"
    without = {
        module: {
            name: jnp.zeros_like(x) if module.startswith(second) else x for name, x in own.items()
        }
        for module, own in params.items()
    }
    training = jax.jit(functools.partial(model.apply, is_training=True))
    evaluation = jax.jit(functools.partial(model.apply, is_training=False))
    first, _ = evaluation(without, state, None, inputs=images(8, 8))
    both, _ = evaluation(params, state, None, inputs=images(8, 8))
    trained, _ = training(params, state, jax.random.key(0), inputs=images(8, 8))
    oracles.assert_close(trained, first)
    assert np.abs(both - first).max() > 1e-3


def test_stochastic_depth_takes_traced_rates():
    x = jnp.ones((1000, 2), jnp.bfloat16)
    dropped = jax.jit(stochastic_depth)(x, jnp.float32(0.75), jax.random.key(0))
    assert dropped.dtype == jnp.bfloat16
    values, counts = np.unique(np.asarray(dropped[:, 0], np.float32), return_counts=True)
    np.testing.assert_array_equal(values, [0, 4])
    np.testing.assert_allclose(counts / 1000, [0.75, 0.25], atol=0.05)
    np.testing.assert_array_equal(
        jax.jit(stochastic_depth)(x, jnp.float32(0), jax.random.key(0)), x
    )


@pytest.mark.slow
@pytest.mark.parametrize("section", [CONV, ATTENTION], ids=["C", "T"])
def test_rematerialisation_gives_the_same(section):
    def outcome(remat):
        model, params, state = initialised(section | dict(remat=remat), images(8, 8))

        def train(params):
            return model.apply(params, state, None, inputs=images(8, 8), is_training=True)[0]

        return oracles.values_and_gradients(train, params)

    oracles.assert_close(outcome("all"), outcome("none"))


MEAN = "stage_1/__layer_stack_with_per_layer/block/norm/~/mean_ema/average"


def test_batch_norm_is_global_on_a_mesh_and_per_device_under_pmap():
    model, params, state = initialised(CONV, images(8, 8))
    batch = images(8, 8, batch=8)

    def statistics(x):
        return names(model.apply(params, state, None, inputs=x, is_training=True)[1])[MEAN]

    compiled = jax.jit(statistics)
    alone = compiled(batch)
    mesh = jax.make_mesh((4,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    rows = jax.device_put(batch, NamedSharding(mesh, PartitionSpec("data")))
    oracles.assert_close(compiled(rows), alone)
    parts = batch.reshape(4, 2, *batch.shape[1:])
    replicas = jax.pmap(statistics)(parts)
    oracles.assert_close(replicas, np.stack([compiled(part) for part in parts]))
    assert np.abs(replicas[0] - alone).max() > 1e-3


def test_half_precision_keeps_statistics_and_offsets_in_float32():
    model, params, state = initialised(CONV | dict(compute_dtype="bfloat16"), images(8, 8))

    @functools.partial(jax.jit, static_argnums=0)
    def train(model):
        return model.apply(params, state, None, inputs=images(8, 8), is_training=True)

    (found, after), (expected, _) = train(model), train(build(CONV))
    oracles.assert_close(found, expected, 0.05)
    assert not np.array_equal(found, expected)
    assert {x.dtype for x in jax.tree.leaves(after)} == {jnp.dtype("float32"), jnp.dtype("int32")}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(layout="C-X"), "layout is 'C-X', which must be letters C and T, with a hyphen"),
        (dict(layout="C-T"), r"'C-T' has 2 letters, but there are 1 depths \(2,\) and 1 widths"),
        (dict(layout="T", blocks=dict(head_size=3)), "attention of width 8 .* head_size=3"),
        (dict(blocks=dict(stride="first")), "blocks.stride is 'first'"),
    ],
)
def test_wrong_settings(settings, message):
    with pytest.raises(UserError, match=message):
        build(CONV | settings).shapes()
