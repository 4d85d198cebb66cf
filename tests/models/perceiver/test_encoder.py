"""Encoders: the scanned stack against a loop, and weight sharing."""

import dataclasses

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_io.models.perceiver.cross_attend import CrossAttend
from perceiver_io.models.perceiver.encoder import LatentStack, SingleReadEncoder
from perceiver_io.models.perceiver.original import InterleavedEncoder, InterleavedEncoderSettings
from perceiver_io.models.perceiver.tokens import Tokens
from perceiver_io.models.settings import (
    AttentionForm,
    CrossAttendSettings,
    EncoderSettings,
    LatentStackSettings,
    SelfAttendSettings,
)
from perceiver_io.models.transformer import SelfAttend
from tests.helpers import oracles
from tests.helpers.oracles import normal, random_mask

pytestmark = pytest.mark.usefixtures("for_cpu")

CROSS_ATTEND = CrossAttendSettings(num_heads=1, use_query_residual=True)
STACK = LatentStackSettings(num_layers=3, num_heads=2)
STACK_NAME = "latent_stack/__layer_stack_no_per_layer/self_attend"
LATENTS, INPUTS = normal(2, 5, 6), normal(2, 9, 4, seed=1)


def transformed(function):
    """`function` with jitted init and apply."""
    init, apply = hk.transform(function)
    return hk.Transformed(jax.jit(init), jax.jit(apply))


def random_params(function, *arguments):
    return oracles.random_params(hk.transform(function).init, *arguments)


def gradients_of(function, params, *arguments):
    """Value, and gradients with respect to parameters and arguments."""
    apply = lambda params, *x: hk.transform(function).apply(params, None, *x)  # noqa: E731
    return oracles.values_and_gradients(apply, params, *arguments)


def stack(latents, **settings):
    return LatentStack(dataclasses.replace(STACK, **settings), AttentionForm())(latents, True)


def looped(params, name, latents):
    """The stack as a Python loop over `SelfAttend`, with the weights of the scanned stack."""
    layer = hk.transform(lambda x: SelfAttend(SelfAttendSettings(2))(x, is_training=True))
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

    loop = lambda params, x: looped(params, STACK_NAME, x)  # noqa: E731
    expected = oracles.values_and_gradients(loop, params, LATENTS)
    oracles.assert_close(gradients_of(stack, params, LATENTS), expected)


@pytest.mark.parametrize("remat", ["products", "all"])
def test_rematerialisation_changes_no_gradient(remat):
    params = random_params(stack, LATENTS)
    oracles.assert_close(
        gradients_of(lambda x: stack(x, remat=remat), params, LATENTS),
        gradients_of(stack, params, LATENTS),
    )


@pytest.mark.slow
def test_rematerialisation_saves_memory():
    def temporary_bytes(remat):
        function = hk.transform(lambda x: stack(x, num_layers=12, remat=remat))
        latents = jax.ShapeDtypeStruct((4, 256, 32), jnp.float32)
        params = jax.eval_shape(function.init, jax.random.key(0), latents)

        def loss(params, latents):
            return function.apply(params, None, latents).sum()

        compiled = jax.jit(jax.grad(loss)).lower(params, latents).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    nothing, products, everything = map(temporary_bytes, ("none", "products", "all"))
    assert everything < products < nothing and everything < nothing / 3


def test_layers_drop_independently():
    """Each of three layers adds 0 or 2: its attention output is 1, with a dropout rate of 1/2."""
    function = transformed(lambda x: stack(x, dropout=0.5))
    latents = np.zeros((2, 50, 6), np.float32)
    params = function.init(jax.random.key(0), latents)
    params = jax.tree.map(jnp.zeros_like, params)
    bias = params[f"{STACK_NAME}/attention/output"]["b"]
    params[f"{STACK_NAME}/attention/output"]["b"] = jnp.ones_like(bias)
    result = function.apply(params, jax.random.key(0), latents)
    values, counts = np.unique(result, return_counts=True)
    np.testing.assert_array_equal(values, [0, 2, 4, 6])
    np.testing.assert_allclose(counts / result.size, [1 / 8, 3 / 8, 3 / 8, 1 / 8], atol=0.1)


def encode(num_blocks, form=AttentionForm()):
    def function(inputs):
        settings = EncoderSettings(5, 6, STACK, num_blocks)
        return SingleReadEncoder(settings, form)(Tokens(inputs), True)

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
def test_blocks_repeat_the_same_stack():
    def by_hand(inputs):
        class Repeated(hk.Module):
            def __call__(self, inputs):
                latents = hk.get_parameter("latents", [5, 6], init=jnp.zeros)[None]
                block, layers = CrossAttend(CROSS_ATTEND), LatentStack(STACK, AttentionForm())
                latents = block(Tokens(latents), Tokens(inputs), is_training=True)
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


def interleaved(cross_attends, stacks):
    return InterleavedEncoderSettings(5, 6, cross_attends, stacks, STACK)


def interleave(cross_attends, stacks):
    def function(inputs):
        encoder = InterleavedEncoder(interleaved(cross_attends, stacks))
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
        ((0, 1, 2), (None, None, None), ["cross_attend", "cross_attend_1", "cross_attend_2"]),
    ],
    ids=str,
)
def test_shared_weights_share_their_names(cross_attends, stacks, names):
    params = random_params(interleave(cross_attends, stacks), INPUTS)
    assert {"latents"} == set(params["encoder"])
    assert sorted({key.split("/")[1] for key in params if "/" in key}) == names


def test_interleaved_stages_against_numpy():
    """Two cross-attends and two stacks, each used more than once, not all in pairs."""
    cross_attends, stacks = (0, 1, None, 1), (0, None, 1, 0)
    function = interleave(cross_attends, stacks)
    params = random_params(function, INPUTS)
    exact = oracles.as_float64(params)
    x = exact["encoder"]["latents"][None]
    for cross_attend, number in zip(cross_attends, stacks, strict=True):
        if cross_attend is not None:
            name = ["encoder/cross_attend", "encoder/cross_attend_1"][cross_attend]
            x = oracles.cross_attend(x, INPUTS, exact, name, 1, True)
        if number is None:
            continue
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


CHOSEN = jnp.array([3, 0])


def shown(encoder, mask=None):
    """Functions that return the encoder's maps of the chosen latents."""
    return hk.without_apply_rng(
        transformed(lambda x: encoder().attention_maps(Tokens(x, mask=mask), CHOSEN))
    )


def map_of(latents, params, name):
    """The softmax of a cross-attend with one head, by hand: [B, 1, O, M]."""
    exact = oracles.as_float64(params)
    q, k = (
        oracles.linear(
            oracles.layer_norm(x, exact[f"{name}/{norm}"]), exact[f"{name}/attention/{layer}"]
        )[:, :, None]
        for x, norm, layer in (
            (latents, "norm_queries", "query"),
            (INPUTS, "norm_inputs", "key"),
        )
    )
    return oracles.attention_weights(q, k, q.shape[-1] ** -0.5, MASK)


MASK = random_mask(2, 9, empty=False)


def test_map_of_the_single_cross_attend():
    params = random_params(encode(2), INPUTS)
    encoder = lambda: SingleReadEncoder(EncoderSettings(5, 6, STACK, num_blocks=2))  # noqa: E731
    (result,) = shown(encoder, MASK).apply(params, INPUTS)
    latents = params["encoder"]["latents"][None, CHOSEN]
    oracles.assert_close(result, map_of(latents, params, "encoder/cross_attend"))
    np.testing.assert_allclose(result.sum(-1), 1, rtol=1e-5)


@pytest.mark.slow
def test_maps_of_all_cross_attends_in_their_order():
    cross_attends, stacks = (0, 1, None, 1), (0, 1, 1, 0)
    params = random_params(interleave(cross_attends, stacks), INPUTS)
    encoder = lambda: InterleavedEncoder(interleaved(cross_attends, stacks))  # noqa: E731
    maps = shown(encoder, MASK).apply(params, INPUTS)
    names = ["encoder/cross_attend", "encoder/cross_attend_1", "encoder/cross_attend_1"]
    for i, (result, name) in enumerate(zip(maps, names, strict=True)):
        # The queries of a cross-attend are the latents after the stages before it.
        stages = [0, 1, 3][i]
        latents = params["encoder"]["latents"][None]
        if stages:
            before = interleaved(cross_attends[:stages], stacks[:stages])
            shorter = transformed(
                lambda x, s=before: InterleavedEncoder(s)(Tokens(x, mask=MASK), False)
            )
            latents = shorter.apply(params, None, INPUTS)
        oracles.assert_close(result, map_of(latents[:, CHOSEN], params, name))
        np.testing.assert_allclose(result.sum(-1), 1, rtol=1e-5)
