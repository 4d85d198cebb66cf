"""Perceiver IO and Perceiver as a whole: masks, chunks, permutations."""

import dataclasses

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_io.models.perceiver.decoder import Decoder
from perceiver_io.models.perceiver.encoder import SingleReadEncoder
from perceiver_io.models.perceiver.inputs import ArrayTokens, PermutedTokens, RawValues, ReadyTokens
from perceiver_io.models.perceiver.original import Perceiver
from perceiver_io.models.perceiver.outputs import AveragePooledLogits, PositionProjection
from perceiver_io.models.perceiver.perceiver import PerceiverIO
from perceiver_io.models.perceiver.positions import FourierPositions
from perceiver_io.models.perceiver.queries import (
    InputQueries,
    LearnedQueries,
    ModalityQueries,
    PositionQueries,
)
from perceiver_io.models.settings import (
    AttentionForm,
    CrossAttendSettings,
    DecoderSettings,
    EncoderSettings,
    LatentStackSettings,
)
from tests.helpers import oracles
from tests.helpers.oracles import normal, values_and_gradients

pytestmark = pytest.mark.usefixtures("for_cpu")

POSITIONS = FourierPositions(num_bands=2, resolution=(3, 4))
CROSS_ATTEND = CrossAttendSettings(num_heads=1, use_query_residual=True)
ENCODER = EncoderSettings(4, 6, LatentStackSettings(num_layers=1, num_heads=2))


def perceiver_io(
    inputs=ReadyTokens,
    queries=lambda: LearnedQueries(5, 7),
    query_chunk_size=None,
    outputs=lambda: PositionProjection(3),
    **cross_attend,
):
    """Functions init, apply, encode, decode of a small model, with jitted apply."""

    block = dataclasses.replace(CROSS_ATTEND, **cross_attend)

    def transformed():
        model = PerceiverIO(
            inputs=inputs(),
            encoder=SingleReadEncoder(ENCODER),
            queries=queries(),
            decoder=Decoder(DecoderSettings(block, query_chunk_size)),
            outputs=outputs(),
        )
        return model, (model, model.encode, model.decode)

    init, (apply, encode, decode) = hk.multi_transform(transformed)

    def init_random(*arguments, **keywords):
        return oracles.random_params(init, *arguments, is_training=True, **keywords)

    def quiet(function):
        """Compiled evaluation without a random key."""
        return jax.jit(
            lambda params, *arguments, **keywords: function(
                params, None, *arguments, is_training=False, **keywords
            )
        )

    training = jax.jit(lambda params, key, *x, **y: apply(params, key, *x, is_training=True, **y))
    return init_random, quiet(apply), quiet(encode), quiet(decode), training


INPUTS = normal(2, 9, 5)
INPUT_MASK = jnp.array([[1, 0, 1, 1, 0, 1, 1, 1, 0], [0, 1, 1, 0, 0, 0, 1, 0, 1]], bool)


@pytest.mark.slow
def test_masked_inputs_are_ignored():
    init, apply, *_ = perceiver_io()
    params = init(INPUTS)
    changed = np.where(INPUT_MASK[..., None], INPUTS, 100 * normal(2, 9, 5, seed=1))

    def masked(params, inputs):
        return apply(params, inputs, input_mask=INPUT_MASK)

    value, (_, of_inputs) = values_and_gradients(masked, params, INPUTS)
    oracles.assert_close(masked(params, changed), value)
    assert not of_inputs[~INPUT_MASK].any()
    assert np.abs(of_inputs[INPUT_MASK]).min() > 0
    for example in range(2):
        dropped = INPUTS[example : example + 1, INPUT_MASK[example]]
        oracles.assert_close(value[example], apply(params, dropped)[0])


def test_an_example_without_any_input_is_finite():
    init, apply, *_ = perceiver_io()
    mask = INPUT_MASK & jnp.array([[True], [False]])
    results = values_and_gradients(lambda p, x: apply(p, x, input_mask=mask), init(INPUTS), INPUTS)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(results))


def test_masked_queries_attend_to_nothing():
    init, apply, *_ = perceiver_io(use_query_residual=False)
    params = init(INPUTS)
    mask = np.array([[1, 1, 0, 1, 0], [0, 1, 1, 1, 1]], bool)
    unmasked = apply(params, INPUTS)
    result = apply(params, INPUTS, query_mask=mask)
    np.testing.assert_allclose(result[mask], unmasked[mask], atol=1e-5)
    # Their output, biases passed through the MLP, is the same for all inputs and queries.
    exact = oracles.as_float64(params)
    bias = exact["decoder/cross_attend/attention/output"]["b"]
    nothing = bias + oracles.mlp(bias, exact, "decoder/cross_attend/mlp")
    expected = oracles.linear(nothing, exact["decoder/output"])
    np.testing.assert_allclose(result[~mask], np.tile(expected, (3, 1)), atol=1e-5)


def test_masked_inputs_as_queries_are_masked_too():
    init, apply, *_ = perceiver_io(queries=InputQueries)
    params = init(INPUTS)
    result = apply(params, INPUTS, input_mask=INPUT_MASK)
    explicit = apply(params, INPUTS, input_mask=INPUT_MASK, query_mask=INPUT_MASK)
    np.testing.assert_allclose(result, explicit, atol=1e-6)
    unmasked = apply(params, INPUTS, input_mask=INPUT_MASK, query_mask=np.ones((2, 9), bool))
    np.testing.assert_allclose(result[INPUT_MASK], unmasked[INPUT_MASK], atol=1e-5)
    assert np.abs(result - unmasked)[~INPUT_MASK].max() > 1e-3


@pytest.mark.slow
def test_decoding_in_chunks():
    grid = lambda: PositionQueries(POSITIONS, (3, 4))  # noqa: E731
    mask = np.random.default_rng(0).random((2, 12)) < 0.6
    init, apply, *_ = perceiver_io(queries=grid)
    init_chunked, apply_chunked, *_ = perceiver_io(queries=grid, query_chunk_size=7)
    params = init(INPUTS)
    assert jax.tree.structure(params) == jax.tree.structure(init_chunked(INPUTS))
    oracles.assert_close(
        values_and_gradients(lambda p, x: apply_chunked(p, x, query_mask=mask), params, INPUTS),
        values_and_gradients(lambda p, x: apply(p, x, query_mask=mask), params, INPUTS),
    )


@pytest.mark.slow
def test_chunks_drop_independently():
    # The same query twelve times.
    class Same:
        def __call__(self, tokens, query):
            queries = LearnedQueries(1, 7)(tokens, query)
            return queries._replace(features=jnp.repeat(queries.features, 12, axis=1))

    init, apply, _, _, training = perceiver_io(queries=Same, query_chunk_size=4, dropout=0.5)
    params = init(INPUTS)
    evaluated = apply(params, INPUTS)
    np.testing.assert_allclose(evaluated, np.tile(evaluated[:, :1], (1, 12, 1)), atol=1e-5)
    first, second, third = np.split(training(params, jax.random.key(0), INPUTS), 3, axis=1)
    assert np.abs(first - second).max() > 1e-3 and np.abs(second - third).max() > 1e-3


@pytest.mark.slow
def test_memory_of_decoding_in_chunks_does_not_grow_with_its_queries():
    def temporary_bytes(size, chunk_size):
        init, apply, *_ = perceiver_io(
            queries=lambda: PositionQueries(POSITIONS, (size, 64)), query_chunk_size=chunk_size
        )
        params = init(INPUTS)
        lowered = apply.lower(params, INPUTS)
        memory = lowered.compile().memory_analysis()
        # The queries themselves are computed as a whole: 10 channels of 4 bytes.
        return memory.temp_size_in_bytes - 2 * size * 64 * 40

    assert temporary_bytes(64, 64) < temporary_bytes(64, None) / 4


@pytest.mark.slow
def test_encoded_once_and_decoded_in_chunks():
    points = np.random.default_rng(0).uniform(-1, 1, (2, 8, 2)).astype(np.float32)
    queries = lambda: PositionQueries(POSITIONS, (3, 4))  # noqa: E731
    init, apply, encode, decode, _ = perceiver_io(queries=queries)
    parts = [slice(0, 3), slice(3, 4), slice(4, 8)]

    def at_once(params, inputs):
        return apply(params, inputs, query=points)

    def in_pieces(params, inputs):
        encoded = encode(params, inputs)
        pieces = [decode(params, encoded, query=points[:, part]) for part in parts]
        return jnp.concatenate(pieces, axis=1)

    params = init(INPUTS)
    oracles.assert_close(
        values_and_gradients(in_pieces, params, INPUTS),
        values_and_gradients(at_once, params, INPUTS),
    )


@pytest.mark.slow
def test_shared_queries_equal_their_copies():
    queries = lambda: PositionQueries(POSITIONS, (3, 4))  # noqa: E731
    init, apply, *_ = perceiver_io(queries=queries)
    params = init(INPUTS)
    y, x = np.meshgrid(np.linspace(-1, 1, 3), np.linspace(-1, 1, 4), indexing="ij")
    grid = np.stack([y, x], -1).reshape(1, 12, 2).astype(np.float32)
    copies = np.repeat(grid, 2, axis=0)
    oracles.assert_close(
        values_and_gradients(lambda p, x: apply(p, x, query=copies), params, INPUTS),
        values_and_gradients(apply, params, INPUTS),
    )


@pytest.mark.slow
def test_modalities():
    def queries():
        return ModalityQueries(
            {"grid": PositionQueries(POSITIONS, (3, 4)), "inputs": InputQueries()}, 2
        )

    def outputs():
        names = ("grid", "inputs")
        return {n: PositionProjection(w, name=n) for n, w in zip(names, (3, 2), strict=True)}

    init, apply, _, decode, _ = perceiver_io(queries=queries, outputs=outputs)
    params = init(INPUTS)
    every = apply(params, INPUTS)
    assert {name: x.shape for name, x in every.items()} == {
        "grid": (2, 12, 3),
        "inputs": (2, 9, 2),
    }
    one = apply(params, INPUTS, query={"inputs": None})
    oracles.assert_close(one, {"inputs": every["inputs"]})
    mask = np.arange(24).reshape(2, 12) % 2 == 0
    masked = apply(params, INPUTS, query_mask={"grid": mask, "inputs": None})
    np.testing.assert_allclose(masked["inputs"], every["inputs"], atol=1e-6)
    np.testing.assert_allclose(masked["grid"][mask], every["grid"][mask], atol=1e-5)
    assert np.abs(masked["grid"] - every["grid"])[~mask].min() > 0


@pytest.mark.slow
def test_a_set_model_ignores_the_order_of_its_inputs():
    image, mask = normal(2, 3, 4, 2), np.arange(24).reshape(2, 12) % 5 > 0
    tokens = lambda: ArrayTokens(RawValues(), POSITIONS)  # noqa: E731
    init, apply, *_ = perceiver_io(inputs=tokens)
    _, permuted, *_ = perceiver_io(inputs=lambda: PermutedTokens(tokens(), seed=1))
    params = init(image)

    def run(apply):
        return values_and_gradients(lambda p, x: apply(p, x, input_mask=mask), params, image)

    oracles.assert_close(run(permuted), run(apply))
    # Moving pixels without their positions does change the result.
    shuffled = image.reshape(2, 12, 2)[:, np.random.default_rng(1).permutation(12)]
    other = apply(params, shuffled.reshape(image.shape), input_mask=mask)
    assert np.abs(other - apply(params, image, input_mask=mask)).max() > 1e-3


def test_perceiver_averages_its_latents():
    def run(inputs):
        encoder = SingleReadEncoder(ENCODER)
        model = Perceiver(ReadyTokens(), encoder, AveragePooledLogits(3))
        mask = jnp.asarray(INPUT_MASK)
        encoded = model.encode(inputs, input_mask=mask, is_training=False)
        return model(inputs, input_mask=mask, is_training=False), encoded.latents

    function = hk.transform(run)
    params = oracles.random_params(function.init, INPUTS)
    logits, latents = jax.jit(function.apply)(params, None, INPUTS)
    exact = oracles.as_float64(params)
    oracles.assert_close(logits, oracles.linear(np.asarray(latents).mean(1), exact["logits"]))


@pytest.mark.slow
def test_queries_of_different_widths_have_separate_decoders():
    """Two sets of learned queries, 3 and 7 wide, decoded from one encoding by separate weights."""
    tokens = normal(2, 5, 6)

    def build(form):
        decoders = {
            name: Decoder(DecoderSettings(CROSS_ATTEND), form, name=f"{name}_decoder")
            for name in ("narrow", "wide")
        }
        queries = {
            "narrow": LearnedQueries(2, 3, name="narrow_queries"),
            "wide": LearnedQueries(4, 7, name="wide_queries"),
        }
        return PerceiverIO(
            inputs=ReadyTokens(),
            encoder=SingleReadEncoder(ENCODER, form),
            queries=lambda tokens, query: {
                name: part(tokens, None) for name, part in queries.items()
            },
            decoder=decoders,
            outputs={
                "narrow": PositionProjection(2, name="narrow_output"),
                "wide": PositionProjection(5, name="wide_output"),
            },
        )

    forms = [
        hk.transform(lambda x, f=f: build(f)(x, is_training=False))
        for f in (AttentionForm("textbook"), AttentionForm())
    ]
    params = oracles.random_params(forms[0].init, tokens)
    textbook, fast = (jax.jit(form.apply)(params, None, tokens) for form in forms)
    assert {name: x.shape for name, x in fast.items()} == {"narrow": (2, 2, 2), "wide": (2, 4, 5)}
    oracles.assert_close(fast, textbook)
    of_wide = jax.grad(lambda p: forms[1].apply(p, None, tokens)["wide"].sum())
    gradient = jax.jit(of_wide)(params)
    touched = {name.split("/")[0] for name, x in gradient.items() if any(map(np.any, x.values()))}
    assert touched == {"encoder", "wide_decoder", "wide_queries"}
