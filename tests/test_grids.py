"""Tokens of a grid multiplied without being joined: the same attention, in fewer FLOPs."""

import math

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from perceiver_io.models.blocks import CrossAttend

from perceiver_io.models.attention import AttentionForm, attention_form
from perceiver_io.models.fast.grids import GridPositions, lift, standardised
from perceiver_io.models.layers import Norm
from perceiver_io.models.perceiver.outputs import PositionProjection
from perceiver_io.models.perceiver.perceiver import Decoder
from perceiver_io.models.perceiver.positions import FourierPositions, LearnedPositions, grid_of
from perceiver_io.models.perceiver.tokens import Tokens
from perceiver_io.training.flops import count_flops
from tests import oracles

PLAIN = AttentionForm(key_chunk_size=None, fold_projections=False)
# Axes; most tokens a chunk: whole, rows that divide, rows that do not, less than a row; masked.
CASES = [
    ((4, 5), None, True),
    ((4, 5), 11, False),
    ((5, 4), 9, True),
    ((3, 6), 2, False),
    ((2, 3, 4), None, False),
    ((5, 2, 3), 13, True),
]


def random(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def on_grid(features, shape, num_bands=16):
    """Features with wide positions, so that it pays not to join them."""
    return Tokens(features, grid_of(FourierPositions(num_bands, shape), shape))


def random_mask(batch, length, empty):
    """Each row keeps its first token; the last row keeps none where `empty`."""
    mask = np.random.default_rng(3).random((batch, length)) < 0.6
    mask[:, 0] = True
    if empty:
        mask[-1] = False
    return jnp.asarray(mask)


def values_and_gradients(function, form, *arguments):
    """Results of a Haiku function with random parameters in a form, and its gradients."""
    transformed = hk.transform(function)
    params = oracles.random_params(transformed.init, *arguments)

    def apply(params, *arguments):
        with attention_form(form):
            return transformed.apply(params, jax.random.key(1), *arguments)

    @jax.jit
    def both(*arguments):
        value, pullback = jax.vjp(apply, *arguments)
        return value, pullback(random(*value.shape, seed=4))

    return both(params, *arguments)


def read(shape, mask, dense=False, num_bands=16, **options):
    def function(features, latents):
        tokens = on_grid(features, shape, num_bands)._replace(mask=mask)
        block = CrossAttend(1, True, **options)
        return block.read(tokens.dense() if dense else tokens, latents, is_training=True)

    return function


def decode(shape, mask, chunk_size, dense=False, num_bands=16, **options):
    def function(features, latents):
        tokens = on_grid(features, shape, num_bands)._replace(mask=mask)
        decoder = Decoder(dict(num_heads=1, use_query_residual=False, **options), chunk_size)
        queries = tokens.dense() if dense else tokens
        return decoder(queries, latents, PositionProjection(2).maps, is_training=True)

    return function


def joined(positions):
    raise AssertionError("The positions of the grid were written out.")


def assert_same_without_joining(function, arguments, form, monkeypatch):
    """What the plain form gives, from rows and columns alone."""
    plain = values_and_gradients(function, PLAIN, *arguments)
    with monkeypatch.context() as patch:
        patch.setattr(GridPositions, "dense", joined)
        result = values_and_gradients(function, form, *arguments)
    oracles.assert_close(result, plain, 1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("shape,chunk_size,masked", CASES, ids=str)
def test_inputs_on_a_grid(shape, chunk_size, masked, monkeypatch):
    size = math.prod(shape)
    arguments = random(3, size, 2), random(1, 2, 7, seed=1)
    mask = random_mask(3, size, empty=True) if masked else None
    form = AttentionForm(key_chunk_size=chunk_size)
    assert_same_without_joining(
        read(shape, mask, qk_dim=30, v_dim=30), arguments, form, monkeypatch
    )


@pytest.mark.slow
@pytest.mark.parametrize("shape,chunk_size,masked", CASES, ids=str)
def test_queries_on_a_grid(shape, chunk_size, masked, monkeypatch):
    size = math.prod(shape)
    arguments = random(1, size, 2), random(3, 9, 4, seed=1)
    mask = random_mask(3, size, empty=False) if masked else None
    function, form = decode(shape, mask, chunk_size, qk_dim=30), AttentionForm(key_chunk_size=4)
    assert_same_without_joining(function, arguments, form, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("batches", [(1, 1), (1, 3), (3, 1), (3, 3)], ids=str)
def test_what_is_shared_by_all_examples(batches, monkeypatch):
    features, latents = random(batches[0], 20, 2), random(batches[1], 2, 7, seed=1)
    form = AttentionForm(key_chunk_size=11)
    assert_same_without_joining(
        read((4, 5), None, qk_dim=30, v_dim=30), (features, latents), form, monkeypatch
    )
    latents, function = random(max(batches), 9, 4, seed=1), decode((4, 5), None, 11, qk_dim=30)
    assert_same_without_joining(function, (features, latents), form, monkeypatch)


@pytest.mark.parametrize("side", ["inputs", "queries"])
@pytest.mark.slow
def test_attention_dropout_is_that_of_dense_positions(side):
    make = {
        "inputs": lambda dense: read((4, 5), None, dense, attention_dropout=0.5),
        "queries": lambda dense: decode((4, 5), None, None, dense, attention_dropout=0.5),
    }[side]
    arguments = random(2, 20, 2), random(2, 2, 7, seed=1)
    results = [values_and_gradients(make(d), AttentionForm(), *arguments) for d in (True, False)]
    oracles.assert_close(*results, 1e-5)


@pytest.mark.parametrize("side", ["inputs", "queries"])
@pytest.mark.slow
def test_bfloat16_is_as_close_as_dense_positions(side):
    make = {
        "inputs": lambda dense: read((4, 5), None, dense),
        "queries": lambda dense: decode((4, 5), None, None, dense, qk_dim=30),
    }[side]
    arguments = random(2, 20, 2), random(2, 2 if side == "inputs" else 9, 7, seed=1)

    def run(form, dense, dtype):
        transformed = hk.transform(make(dense))
        params = oracles.random_params(transformed.init, *arguments)
        low = jax.tree.map(lambda x: x.astype(dtype), (params, *arguments))
        with attention_form(form):
            return np.asarray(transformed.apply(low[0], None, *low[1:]), np.float32)

    exact = run(PLAIN, True, jnp.float32)
    errors = [
        np.abs(run(AttentionForm(), dense, jnp.bfloat16) - exact).max() for dense in (True, False)
    ]
    assert 0 < errors[1] < max(2 * errors[0], 0.02 * np.abs(exact).max())


@pytest.mark.parametrize("mean", [0, 300])
@pytest.mark.slow
def test_standardised_tokens(mean):
    """Features far from zero lose no more than in a norm of the joined tokens."""
    features, shape = mean + random(2, 12, 3), (3, 4)
    tokens = on_grid(features, shape)
    rows = standardised(features, tokens.positions)
    unit = Norm(jnp.ones(tokens.width), jnp.zeros(tokens.width))
    through = lift(3, tokens.positions)
    # The rows are read off by multiplying with the identity.
    matrix = rows.query_logits(jnp.eye(len(through))[None, :, None], 1.0)[:, 0]
    expected = unit(tokens.joined())
    oracles.assert_close(jnp.einsum("bkm,kd->bmd", matrix, through), expected, 1e-5)


def test_any_rows_and_columns_may_overlap():
    """The summands of Fourier features have no channel in common; learned ones may."""
    positions = GridPositions(random(1, 3, 6), random(1, 1, 4, 6, seed=1))
    features = random(2, 12, 2, seed=2)
    tokens = Tokens(features, positions)
    through = lift(2, positions)
    matrix = standardised(features, positions).query_logits(
        jnp.eye(len(through))[None, :, None], 1.0
    )
    unit = Norm(jnp.ones(8), jnp.zeros(8))
    result = jnp.einsum("bkm,kd->bmd", matrix[:, 0], through)
    oracles.assert_close(result, unit(tokens.joined()), 1e-5)


def test_only_grids_of_several_rows_are_rows_and_columns():
    fourier = FourierPositions(2, (3, 4))
    assert isinstance(grid_of(fourier, (3, 4)), GridPositions)
    assert grid_of(fourier, (1, 4)).shape == (1, 4, 10)
    assert grid_of(FourierPositions(2, (4,)), (4,)).shape == (1, 4, 5)
    learned = hk.without_apply_rng(hk.transform(lambda: grid_of(LearnedPositions(6, 4), (2, 3))))
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
        chunk = (4096,) if decodes else ()
        make = (decode if decodes else read)(shape, None, *chunk, dense=dense, num_bands=64)
        array = lambda *size: jax.ShapeDtypeStruct(size, jnp.float32)  # noqa: E731
        arguments = array(1, math.prod(shape), channels), array(1, queries, 512)
        transformed = hk.transform(make)
        params = jax.eval_shape(transformed.init, jax.random.key(0), *arguments)
        return count_flops(lambda *a: transformed.apply(a[0], None, *a[1:]), params, *arguments)

    assert flops(False) < most * flops(True)


def test_unfavourable_sizes_stay_dense(monkeypatch):
    """Narrow positions, or many rows at once, would take more FLOPs than joined tokens."""
    for positions in (FourierPositions(1, (20, 2)), FourierPositions(4, (20, 2))):

        def function(features, latents, positions=positions):
            tokens = Tokens(features, grid_of(positions, (20, 2)))
            return CrossAttend(1, True).read(tokens, latents, is_training=False)

        arguments = random(1, 40, 2), random(1, 2, 7, seed=1)
        monkeypatch.setattr(GridPositions, "dense", joined)
        with pytest.raises(AssertionError, match="written out"):
            values_and_gradients(function, AttentionForm(None), *arguments)
