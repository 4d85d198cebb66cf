"""From config sections to models: precision, sizes, forms of attention, errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_io.errors import UserError
from perceiver_io.models.architectures import build
from tests import experiments, oracles


def config_of(preset="fourier", **settings):
    """The shrunk model section of a preset of configs/imagenet.py."""
    config = experiments.shrink(experiments.load("imagenet", preset)).model
    config.num_classes = 5
    with config.unlocked():
        for path, value in settings.items():
            section = config
            *parents, key = path.split("__")
            for parent in parents:
                section = section[parent]
            section[key] = value
    return config


def images(*size, batch=2, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(batch, *(size or (16, 16)), 3)).astype(np.float32)


def initialised(config, inputs):
    model = build(config)
    return model, *oracles.random_params_and_state(model.init, inputs=inputs)


def evaluate(model, params, state, inputs, **settings):
    apply = jax.jit(lambda p, s, x: model.apply(p, s, None, inputs=x, is_training=False))
    return apply(params, state, inputs)[0]


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["conv", "perceiver_2_cross_attends"])
def test_forms_of_attention_agree(preset):
    def outcome(**attention):
        config = config_of(preset, attention=attention)
        model, params, state = initialised(config, images())

        @jax.jit
        def both(params):
            def loss(params):
                logits, _ = model.apply(params, state, None, inputs=images(), is_training=True)
                return jnp.log(jnp.square(logits).mean()), logits

            return jax.value_and_grad(loss, has_aux=True)(params)

        return both(params)

    plain = outcome(key_chunk_size=None, fold_projections=False)
    oracles.assert_close(outcome(key_chunk_size=7, fold_projections=True), plain, 1e-4)


def matrix_products(jaxpr):
    """Types of the operands of every product of matrices, however deeply nested."""
    for equation in jaxpr.eqns:
        if equation.primitive.name in ("dot_general", "conv_general_dilated"):
            yield tuple(x.aval.dtype for x in equation.invars)
        for value in jax.tree.leaves(
            list(equation.params.values()), is_leaf=lambda x: hasattr(x, "eqns")
        ):
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                yield from matrix_products(inner)


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["learned", "conv", "perceiver_2_cross_attends"])
def test_bfloat16(preset):
    model, params, state = initialised(config_of(preset, compute_dtype="bfloat16"), images())
    leaves = jax.tree.leaves((params, state))
    assert {x.dtype for x in leaves} <= {jnp.dtype("float32"), jnp.dtype("int32")}

    def train(params, state, x):
        return model.apply(params, state, jax.random.key(0), inputs=x, is_training=True)

    products = list(matrix_products(jax.make_jaxpr(train)(params, state, images()).jaxpr))
    assert len(products) > 10 and set(products) == {(jnp.dtype("bfloat16"),) * 2}

    low, new_state = jax.jit(train)(params, state, images())
    exact_model = build(config_of(preset))
    high, exact_state = jax.jit(
        lambda p, s, x: exact_model.apply(p, s, None, inputs=x, is_training=True)
    )(params, state, images())
    assert low.dtype == jnp.float32
    assert jax.tree.map(jnp.dtype, new_state) == jax.tree.map(jnp.dtype, exact_state)
    oracles.assert_close(low, high, 0.1)
    assert np.corrcoef(np.ravel(low), np.ravel(high))[0, 1] > 0.995
    oracles.assert_close(new_state, exact_state, 0.02)


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["fourier", "conv"])
def test_fourier_positions_take_any_size(preset):
    model, params, state = initialised(config_of(preset), images())
    larger = images(24, 20)
    logits = evaluate(model, params, state, larger)
    assert logits.shape == (2, 5) and np.isfinite(logits).all()
    # The positions stay those of the trained resolution, spread over the new grid: an image
    # enlarged by repeating its pixels is seen as nearly the same one.
    if preset == "fourier":
        smooth = np.broadcast_to(images().mean((1, 2), keepdims=True), images().shape)
        enlarged = smooth.repeat(2, axis=1).repeat(2, axis=2)
        same = evaluate(model, params, state, smooth)
        assert (
            np.abs(evaluate(model, params, state, enlarged) - same).max() < 0.1 * np.abs(same).max()
        )


def test_learned_positions_take_one_size():
    model, params, state = initialised(config_of("learned"), images())
    with pytest.raises(UserError, match="learned positions for 256 inputs.*480"):
        evaluate(model, params, state, images(24, 20))


@pytest.mark.slow
def test_permuted_pixels_give_the_same():
    model, params, state = initialised(config_of("permuted"), images())
    plain = build(config_of("perceiver_8_cross_attends"))
    oracles.assert_close(
        evaluate(model, params, state, images()), evaluate(plain, params, state, images())
    )


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["conv", "perceiver_conv"])
def test_encode_and_decode_make_apply(preset):
    model, params, state = initialised(config_of(preset), images())
    key = jax.random.key(0)

    def split(params, state, x):
        encoded, after = model.encode(params, state, key, x, is_training=True)
        return model.decode(params, after, key, encoded, is_training=True)

    def whole(params, state, x):
        return model.apply(params, state, key, inputs=x, is_training=True)

    outputs, after = jax.jit(whole)(params, state, images())
    oracles.assert_close(jax.jit(split)(params, state, images()), (outputs, after))
    moved = jax.tree.map(lambda before, after: np.abs(after - before).max(), state, after)
    assert min(jax.tree.leaves(moved)) > 0


def test_linear_patches():
    inputs = dict(
        name="linear_patches", image_size=(16, 16), patch_size=(4, 8), channels=8, num_bands=3
    )
    model, params, state = initialised(config_of(inputs=inputs), images())
    assert params["patch_embedding"]["w"].shape == (4 * 8 * 3, 8)
    assert params["encoder/cross_attend/attention/key"]["w"].shape[0] == 8 + 2 * 7
    assert evaluate(model, params, state, images()).shape == (2, 5)


CONV = dict(name="conv_features", image_size=(3, 16), channels=8, num_bands=3)
PATCHES = dict(
    name="linear_patches", image_size=(16, 18), patch_size=(4, 4), channels=8, num_bands=3
)


@pytest.mark.parametrize(
    "settings,message",
    [
        (dict(name="perceiver_io_clasifier"), "did you mean 'perceiver_io_classifier'"),
        (dict(encoder__num_latent=3), "model.encoder.num_latent .*did you mean 'num_latents'"),
        (dict(decoder__cross_attend__num_head=3), "model.decoder.cross_attend.num_head "),
        (dict(inputs__bands=3), "model.inputs.bands is not a setting of fourier_pixels"),
        (dict(inputs=dict(name="fourier")), "model.inputs.name is 'fourier'"),
        (dict(inputs=dict(name="fourier_pixels", num_bands=3)), "model.inputs lacks image_size"),
        (dict(attention=dict(key_chunk=3)), "model.attention.key_chunk .*'key_chunk_size'"),
        (dict(compute_dtype="float16"), "model.compute_dtype.*'float16'.*bfloat16"),
        (dict(inputs=CONV), r"image_size=\(3, 16\) is too small.*4x4"),
        (dict(inputs=PATCHES), r"image_size=\(16, 18\) does not divide into patches of \(4, 4\)"),
        (dict(encoder__latent_stack__num_heads=3), "qk_dim=16 does not divide into 3 heads"),
    ],
    ids=lambda x: " ".join(x) if isinstance(x, dict) else "",
)
def test_wrong_settings(settings, message):
    with pytest.raises(UserError, match=message):
        oracles.random_params_and_state(build(config_of(**settings)).init, inputs=images())


def test_positions_keep_the_frequencies_of_a_given_resolution():
    """A model for other images is the one that the weights were trained in, at another size."""
    larger = images(32, 32)
    model, params, state = initialised(config_of(), images())
    expected = evaluate(model, params, state, larger)
    config = config_of(inputs__image_size=(32, 32))
    with config.unlocked():
        config.inputs.resolution = (16, 16)
    oracles.assert_close(evaluate(build(config), params, state, larger), expected)
    other = evaluate(build(config_of(inputs__image_size=(32, 32))), params, state, larger)
    assert np.abs(other - expected).max() > 1e-3
