"""Grid tokens without materialised positions: the same attention in fewer FLOPs."""

import math

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_io.models.fast.grids import GridPositions, lift, standardised
from perceiver_io.models.layers import layer_norm
from perceiver_io.models.perceiver.cross_attend import CrossAttend
from perceiver_io.models.perceiver.decoder import Decoder
from perceiver_io.models.perceiver.outputs import PositionProjection
from perceiver_io.models.perceiver.positions import FourierPositions, LearnedPositions, grid_of
from perceiver_io.models.perceiver.tokens import Tokens
from perceiver_io.models.settings import AttentionForm, CrossAttendSettings, DecoderSettings
from perceiver_io.models.weights import LayerNorm
from perceiver_io.training.flops import count_flops
from tests.helpers import oracles
from tests.helpers.oracles import normal, random_mask, values_and_gradients

# Accelerators concatenate features and positions.
pytestmark = pytest.mark.usefixtures("for_cpu")

TEXTBOOK = AttentionForm("textbook")
# Axes; most tokens per chunk: all, rows that divide, rows that do not, less than a row; masked.
CASES = [
    ((4, 5), None, True),
    ((4, 5), 11, False),
    ((5, 4), 9, True),
    ((3, 6), 2, False),
    ((2, 3, 4), None, False),
    ((5, 2, 3), 13, True),
]


def on_grid(features, shape, num_bands=16):
    """Features with wide positions, for which it pays not to concatenate them."""
    positions = grid_of(FourierPositions(num_bands, shape), shape)
    return Tokens(features, positions).astype(features.dtype)


def outcome(make, form, *arguments):
    """Results and gradients of a Haiku function in a form, with random parameters."""
    init, apply = hk.transform(make(form))
    params = oracles.random_params(init, *arguments)
    run = lambda params, *x: apply(params, jax.random.key(1), *x)  # noqa: E731
    return values_and_gradients(run, params, *arguments)


def read(shape, mask=None, dense=False, num_bands=16, **settings):
    """For a form: latents that attend to features on a grid."""
    settings = CrossAttendSettings(num_heads=1, use_query_residual=True, **settings)

    def make(form):
        def function(features, latents):
            tokens = on_grid(features, shape, num_bands)._replace(mask=mask)
            tokens = oracles.with_dense_positions(tokens) if dense else tokens
            return CrossAttend(settings, form)(Tokens(latents), tokens, is_training=True)

        return function

    return make


def decode(shape, mask=None, chunk_size=None, dense=False, num_bands=16, **settings):
    """For a form: features on a grid that attend to latents."""
    settings = DecoderSettings(
        CrossAttendSettings(num_heads=1, use_query_residual=False, **settings), chunk_size
    )

    def make(form):
        def function(features, latents):
            queries = on_grid(features, shape, num_bands)._replace(mask=mask)
            queries = oracles.with_dense_positions(queries) if dense else queries
            return Decoder(settings, form)(queries, latents, PositionProjection(2), True)

        return function

    return make


def joined(positions):
    raise AssertionError("The positions of the grid were written out.")


def assert_same_without_joining(make, form, arguments, monkeypatch):
    """The textbook result, from rows and columns only."""
    textbook = outcome(make, TEXTBOOK, *arguments)
    with monkeypatch.context() as patch:
        patch.setattr(GridPositions, "dense", joined)
        result = outcome(make, form, *arguments)
    oracles.assert_close(result, textbook, 1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("shape,chunk_size,masked", [c for c in CASES if c[1]], ids=str)
def test_inputs_on_a_grid(shape, chunk_size, masked, monkeypatch):
    size = math.prod(shape)
    arguments = normal(3, size, 2), normal(1, 2, 7, seed=1)
    mask = random_mask(3, size) if masked else None
    form = AttentionForm(key_chunk_size=chunk_size)
    make = read(shape, mask, qk_dim=30, v_dim=30)
    assert_same_without_joining(make, form, arguments, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("shape,chunk_size,masked", CASES, ids=str)
def test_queries_on_a_grid(shape, chunk_size, masked, monkeypatch):
    size = math.prod(shape)
    arguments = normal(1, size, 2), normal(3, 9, 4, seed=1)
    mask = random_mask(3, size, empty=False) if masked else None
    make, form = decode(shape, mask, chunk_size, qk_dim=30), AttentionForm(key_chunk_size=4)
    assert_same_without_joining(make, form, arguments, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("batches", [(1, 1), (1, 3), (3, 1)], ids=str)
def test_sides_shared_by_all_examples(batches, monkeypatch):
    features, latents = normal(batches[0], 20, 2), normal(batches[1], 2, 7, seed=1)
    form = AttentionForm(key_chunk_size=11)
    make = read((4, 5), qk_dim=30, v_dim=30)
    assert_same_without_joining(make, form, (features, latents), monkeypatch)
    make, latents = decode((4, 5), None, 11, qk_dim=30), normal(max(batches), 9, 4, seed=1)
    assert_same_without_joining(make, form, (features, latents), monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("side", ["inputs", "queries"])
def test_attention_dropout_equals_that_of_dense_positions(side):
    """In chunks in both forms, since each chunk of keys draws its own dropout."""
    make = {
        "inputs": lambda dense: read((4, 5), dense=dense, attention_dropout=0.5),
        "queries": lambda dense: decode((4, 5), dense=dense, attention_dropout=0.5),
    }[side]
    form = AttentionForm(key_chunk_size=dict(inputs=10, queries=1)[side])
    arguments = normal(2, 20, 2), normal(2, 2, 7, seed=1)
    results = [outcome(make(dense), form, *arguments) for dense in (True, False)]
    oracles.assert_close(*results, 1e-5)


@pytest.mark.parametrize("side", ["inputs", "queries"])
@pytest.mark.slow
def test_bfloat16_is_as_close_as_dense_positions(side):
    make = {
        "inputs": lambda dense: read((4, 5), None, dense),
        "queries": lambda dense: decode((4, 5), None, None, dense, qk_dim=30),
    }[side]
    arguments = normal(2, 20, 2), normal(2, 2 if side == "inputs" else 9, 7, seed=1)

    def run(form, dense, dtype):
        transformed = hk.transform(make(dense)(form))
        params = oracles.random_params(transformed.init, *arguments)
        low = jax.tree.map(lambda x: x.astype(dtype), (params, *arguments))
        return np.asarray(jax.jit(transformed.apply)(low[0], None, *low[1:]), np.float32)

    exact = run(TEXTBOOK, True, jnp.float32)
    errors = [
        np.abs(run(AttentionForm(), dense, jnp.bfloat16) - exact).max() for dense in (True, False)
    ]
    assert 0 < errors[1] < max(2 * errors[0], 0.02 * np.abs(exact).max())


@jax.jit
def standardised_both_ways(tokens):
    """In parts, and by a norm of the concatenated tokens."""
    rows = standardised(tokens.features, tokens.positions)
    through = lift(tokens.features.shape[-1], tokens.positions)
    # Multiplying by the identity gives the rows themselves.
    matrix = rows.query_logits(jnp.eye(len(through))[None, None])[:, 0]
    unit = LayerNorm(jnp.ones(tokens.width), jnp.zeros(tokens.width))
    return jnp.einsum("bkm,kd->bmd", matrix, through), layer_norm(unit, tokens.joined())


@pytest.mark.parametrize("mean", [0, 300])
@pytest.mark.slow
def test_standardised_tokens(mean):
    """Features far from zero lose no more precision than in a norm of the concatenated tokens."""
    features = mean + normal(2, 12, 3)
    oracles.assert_close(*standardised_both_ways(on_grid(features, (3, 4))))


@pytest.mark.slow
def test_rows_and_columns_may_share_channels():
    """Row and column parts of Fourier features share no channel; those of learned ones may."""
    positions = GridPositions(normal(1, 3, 6), normal(1, 1, 4, 6, seed=1))
    tokens = Tokens(normal(2, 12, 2, seed=2), positions)
    oracles.assert_close(*standardised_both_ways(tokens))


def test_only_grids_with_several_rows_are_split():
    fourier = FourierPositions(2, (3, 4))
    assert isinstance(grid_of(fourier, (3, 4)), GridPositions)
    assert grid_of(fourier, (1, 4)).shape == (1, 4, 10)
    assert grid_of(FourierPositions(2, (4,)), (4,)).shape == (1, 4, 5)
    learned = hk.without_apply_rng(
        hk.transform(lambda: grid_of(LearnedPositions((2, 3), 4), (2, 3)))
    )
    assert learned.apply(learned.init(jax.random.key(0))).shape == (1, 6, 4)


@pytest.mark.parametrize(
    "queries,shape,channels,decodes,most",
    [
        (512, (224, 224), 3, False, 0.15),
        (2048, (368, 496), 64, False, 0.35),
        (2048, (368, 496), 64, True, 0.7),
    ],
    ids=["image encoder", "flow encoder", "flow decoder"],
)
def test_published_sizes_take_fewer_flops(queries, shape, channels, decodes, most):
    def flops(dense):
        settings = dict(dense=dense, num_bands=64)
        make = decode(shape, None, 4096, **settings) if decodes else read(shape, **settings)
        array = lambda *size: jax.ShapeDtypeStruct(size, jnp.float32)  # noqa: E731
        arguments = array(1, math.prod(shape), channels), array(1, queries, 512)
        transformed = hk.transform(make(AttentionForm()))
        params = jax.eval_shape(transformed.init, jax.random.key(0), *arguments)
        return count_flops(lambda *a: transformed.apply(a[0], None, *a[1:]), params, *arguments)

    assert flops(False) < most * flops(True)


def test_unfavourable_sizes_stay_dense(monkeypatch):
    """Narrow positions, or many rows at once, would take more FLOPs than concatenated tokens."""
    monkeypatch.setattr(GridPositions, "dense", joined)
    arguments = normal(1, 40, 2), normal(1, 2, 7, seed=1)
    for num_bands in (1, 4):
        with pytest.raises(AssertionError, match="written out"):
            outcome(read((20, 2), num_bands=num_bands), AttentionForm(), *arguments)
