"""Encoders: the scanned stack against a loop, and which weights are shared."""

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from perceiver_io.models.blocks import CrossAttend, SelfAttend

from perceiver_io.errors import UserError
from perceiver_io.models.perceiver.encoder import Encoder, InterleavedEncoder, LatentStack
from perceiver_io.models.perceiver.tokens import Tokens
from tests import oracles

CROSS_ATTEND = dict(num_heads=1, use_query_residual=True)
STACK = dict(num_layers=3, num_heads=2)
STACK_NAME = "latent_stack/__layer_stack_no_per_layer/self_attend"


def random(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


LATENTS, INPUTS = random(2, 5, 6), random(2, 9, 4, seed=1)


def transformed(function):
    """`function` with jitted init and apply."""
    init, apply = hk.transform(function)
    return hk.Transformed(jax.jit(init), jax.jit(apply))


def random_params(function, *arguments):
    return oracles.random_params(hk.transform(function).init, *arguments)


def gradients_of(function, params, *arguments):
    """Value, and gradients with respect to parameters and arguments."""

    @jax.jit
    def both(params, *arguments):
        apply = lambda params, *x: hk.transform(function).apply(params, None, *x)  # noqa: E731
        value, pullback = jax.vjp(apply, params, *arguments)
        return value, pullback(jnp.asarray(random(*value.shape, seed=5)))

    return both(params, *arguments)


def stack(latents, **settings):
    return LatentStack(**(STACK | settings))(latents, True)


def looped(params, name, latents):
    """The stack as a Python loop over `SelfAttend`, with the weights of the scanned one."""
    layer = hk.transform(lambda x: SelfAttend(2, 6, 6)(x, None, True))
    stacked = {
        key.removeprefix(f"{name.removesuffix('self_attend')}"): value
        for key, value in params.items()
        if key.startswith(name)
    }
    for index in range(3):
        latents = layer.apply(jax.tree.map(lambda x, i=index: x[i], stacked), None, latents)
    return latents


def test_stack_equals_a_loop_over_its_layers():
    params = random_params(stack, LATENTS)
    assert all(key.startswith(STACK_NAME) for key in params)

    @jax.jit
    def loop(params, latents):
        value, pullback = jax.vjp(lambda p, x: looped(p, STACK_NAME, x), params, latents)
        return value, pullback(jnp.asarray(random(*value.shape, seed=5)))

    oracles.assert_close(gradients_of(stack, params, LATENTS), loop(params, LATENTS))


def test_rematerialisation_changes_no_gradient():
    params = random_params(stack, LATENTS)
    oracles.assert_close(
        gradients_of(lambda x: stack(x, remat=True), params, LATENTS),
        gradients_of(stack, params, LATENTS),
    )


def test_rematerialisation_saves_memory():
    def temporary_bytes(remat):
        function = hk.transform(lambda x: stack(x, num_layers=12, remat=remat))
        latents = jax.ShapeDtypeStruct((4, 256, 32), jnp.float32)
        params = jax.eval_shape(function.init, jax.random.key(0), latents)

        def loss(params, latents):
            return function.apply(params, None, latents).sum()

        compiled = jax.jit(jax.grad(loss)).lower(params, latents).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    assert temporary_bytes(remat=True) < temporary_bytes(remat=False) / 3


def test_layers_drop_independently():
    """Each of three layers adds 0 or 2 where its attention gives 1, dropped half of the time."""
    function = transformed(lambda x: LatentStack(**STACK, dropout=0.5)(x, True))
    latents = np.zeros((2, 50, 6), np.float32)
    params = function.init(jax.random.key(0), latents)
    params = jax.tree.map(jnp.zeros_like, params)
    bias = params[f"{STACK_NAME}/attention/output"]["b"]
    params[f"{STACK_NAME}/attention/output"]["b"] = jnp.ones_like(bias)
    result = function.apply(params, jax.random.key(0), latents)
    values, counts = np.unique(result, return_counts=True)
    np.testing.assert_array_equal(values, [0, 2, 4, 6])
    np.testing.assert_allclose(counts / result.size, [1 / 8, 3 / 8, 3 / 8, 1 / 8], atol=0.1)


def encode(num_blocks, **settings):
    def function(inputs):
        encoder = Encoder(5, 6, num_blocks, CROSS_ATTEND, STACK | settings)
        return encoder(Tokens(inputs), True)

    return function


def test_encoder_against_numpy():
    params = random_params(encode(2), INPUTS)
    exact = oracles.as_float64(params)
    x = oracles.cross_attend(
        exact["encoder"]["latents"][None], INPUTS, exact, "encoder/cross_attend", 1, True
    )
    name = f"encoder/{STACK_NAME}"
    for layer in [0, 1, 2, 0, 1, 2]:
        weights = {k: {n: v[layer] for n, v in w.items()} for k, w in exact.items() if name in k}
        x = oracles.self_attend(x, weights, name, 2)
    result = transformed(encode(2)).apply(params, None, INPUTS)
    oracles.assert_close(result, x, 1e-5)


@pytest.mark.slow
def test_blocks_apply_the_same_stack_again():
    def by_hand(inputs):
        class Repeated(hk.Module):
            def __call__(self, inputs):
                latents = hk.get_parameter("latents", [5, 6], init=jnp.zeros)[None]
                latents = CrossAttend(**CROSS_ATTEND).read(Tokens(inputs), latents, True)
                layers = LatentStack(**STACK)
                for _ in range(3):
                    latents = layers(latents, True)
                return latents

        return Repeated(name="encoder")(inputs)

    params = random_params(encode(3), INPUTS)
    once = random_params(encode(1), INPUTS)
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, once)
    oracles.assert_close(
        gradients_of(encode(3), params, INPUTS), gradients_of(by_hand, params, INPUTS)
    )


def interleave(cross_attends, stacks):
    def function(inputs):
        encoder = InterleavedEncoder(5, 6, cross_attends, stacks, CROSS_ATTEND, STACK)
        return encoder(Tokens(inputs), True)

    return function


@pytest.mark.parametrize(
    "cross_attends,stacks,names",
    [
        ((0, None, None), (0, 0, 0), ["cross_attend", "latent_stack"]),
        ((0, 1, 1), (0, 0, 0), ["cross_attend", "cross_attend_1", "latent_stack"]),
        (
            (0, None, 1),
            (0, 1, 2),
            ["cross_attend", "cross_attend_1", "latent_stack", "latent_stack_1", "latent_stack_2"],
        ),
        ((None, 0), (1, 0), ["cross_attend", "latent_stack", "latent_stack_1"]),
    ],
    ids=str,
)
def test_sharing_shows_in_the_names(cross_attends, stacks, names):
    params = random_params(interleave(cross_attends, stacks), INPUTS)
    assert {"latents"} == set(params["encoder"])
    assert sorted({key.split("/")[1] for key in params if "/" in key}) == names


def test_interleaved_stages_against_numpy():
    """Two cross-attends and two stacks in an order in which each comes more than once."""
    cross_attends, stacks = (0, 1, None, 1), (0, 1, 1, 0)
    function = interleave(cross_attends, stacks)
    params = random_params(function, INPUTS)
    exact = oracles.as_float64(params)
    x = exact["encoder"]["latents"][None]
    for cross_attend, number in zip(cross_attends, stacks, strict=True):
        if cross_attend is not None:
            name = ["encoder/cross_attend", "encoder/cross_attend_1"][cross_attend]
            x = oracles.cross_attend(x, INPUTS, exact, name, 1, True)
        name = ["encoder/latent_stack/", "encoder/latent_stack_1/"][number]
        name = name + STACK_NAME.removeprefix("latent_stack/")
        for layer in range(3):
            weights = {
                k: {n: v[layer] for n, v in w.items()} for k, w in exact.items() if name in k
            }
            x = oracles.self_attend(x, weights, name, 2)
    oracles.assert_close(transformed(function).apply(params, None, INPUTS), x, 1e-5)


@pytest.mark.slow
def test_a_single_cross_attend_equals_the_encoder():
    single = interleave((0, None, None), (0, 0, 0))
    params = random_params(single, INPUTS)
    oracles.assert_close(
        gradients_of(single, params, INPUTS), gradients_of(encode(3), params, INPUTS)
    )


def test_wrong_settings_are_named():
    with pytest.raises(UserError, match="model.encoder.latent_stack.num_head .*num_heads"):
        random_params(encode(1, num_head=3), INPUTS)
