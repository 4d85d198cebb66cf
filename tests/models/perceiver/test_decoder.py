"""Decoding in every form against the textbook: in chunks, with folded outputs, on grids.

A target is a platform, or "entry", the public function, which traces the versions of all platforms.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_io.models.fast.decoding import decode_for
from perceiver_io.models.perceiver.decoder import decode
from perceiver_io.models.perceiver.positions import FourierPositions
from perceiver_io.models.perceiver.tokens import Tokens
from perceiver_io.models.settings import AttentionForm, CrossAttendSettings, DecoderSettings
from perceiver_io.models.weights import MLP, Attention, CrossAttend, LayerNorm, Linear
from tests.helpers import oracles
from tests.helpers.oracles import normal, random_mask, values_and_gradients

QUERY_DIM, LATENT_DIM = 13, 8
FORMS = {
    "folded": AttentionForm(),
    "unfolded": AttentionForm(fold_projections=False),
    "chunks": AttentionForm(key_chunk_size=3),
}


def random_linear(rows, columns, seed):
    return Linear(normal(rows, columns, seed=seed) / np.sqrt(rows), normal(columns, seed=seed + 50))


def random_norm(width, seed):
    return LayerNorm(1 + 0.3 * normal(width, seed=seed), normal(width, seed=seed + 50))


def random_weights(query_dim=QUERY_DIM):
    return CrossAttend(
        norm_queries=random_norm(query_dim, 0),
        norm_inputs=random_norm(LATENT_DIM, 1),
        attention=Attention(
            random_linear(query_dim, 4, 2),
            random_linear(LATENT_DIM, 4, 3),
            random_linear(LATENT_DIM, 6, 4),
            random_linear(6, query_dim, 5),
        ),
        norm_mlp=random_norm(query_dim, 6),
        mlp=MLP(random_linear(query_dim, 20, 7), random_linear(20, query_dim, 8)),
    )


def assert_equals_textbook(
    target, form, chunk_size, queries, latents, widths, num_heads=1, residual=False
):
    """The block is followed by linear layers of `widths`."""
    block = CrossAttendSettings(num_heads=num_heads, use_query_residual=residual)
    settings = DecoderSettings(block, chunk_size)
    weights = random_weights(queries.width)
    widths = [queries.width, *widths]
    pairs = zip(widths, widths[1:], strict=False)
    outputs = [random_linear(*pair, 9 + i) for i, pair in enumerate(pairs)]

    def textbook(weights, outputs, queries, latents, mask):
        queries = queries._replace(mask=mask)
        return decode(weights, outputs, queries, latents, settings, form=AttentionForm("textbook"))

    def other(weights, outputs, queries, latents, mask):
        queries = queries._replace(mask=mask)
        if target == "entry":
            return decode(weights, outputs, queries, latents, settings, form=form)
        return decode_for(
            target, block, chunk_size, form, weights, outputs, queries, Tokens(latents), None
        )

    mask, queries = queries.mask, queries._replace(mask=None)
    arguments = weights, outputs, queries, latents

    def outcome(function):
        return values_and_gradients(lambda *x: function(*x, mask), *arguments)

    oracles.assert_close(outcome(other), outcome(textbook))


# Of 12 queries: chunks that divide, that do not, one query at a time, all at once.
@pytest.mark.slow
@pytest.mark.parametrize(
    "target,chunk_size,form",
    [
        ("entry", 7, "folded"),
        ("cpu", 1, "chunks"),
        ("cpu", 4, "folded"),
        ("cpu", 5, "chunks"),
        ("cpu", 7, "unfolded"),
        ("cpu", None, "chunks"),
        ("other", 1, "folded"),
        ("other", 4, "unfolded"),
        ("other", 7, "chunks"),
        ("other", None, "folded"),
    ],
)
def test_chunks_of_masked_queries(target, chunk_size, form):
    queries = Tokens(normal(2, 12, QUERY_DIM), mask=random_mask(2, 12))
    latents = normal(2, 9, LATENT_DIM, seed=1)
    assert_equals_textbook(target, FORMS[form], chunk_size, queries, latents, [5, 2])


@pytest.mark.parametrize(
    "target,residual,widths",
    [
        ("cpu", False, []),
        ("cpu", True, [2]),
        ("cpu", False, [40]),
        ("cpu", False, [5, 2]),
        ("cpu", True, [3, 30]),
        ("other", True, []),
        ("other", False, [2]),
        ("other", True, [40]),
        ("other", True, [5, 2]),
        ("other", False, [3, 30]),
    ],
)
def test_outputs_of_any_width(target, residual, widths):
    queries, latents = Tokens(normal(2, 12, QUERY_DIM)), normal(2, 9, LATENT_DIM, seed=1)
    assert_equals_textbook(target, AttentionForm(), 5, queries, latents, widths, residual=residual)


@pytest.mark.slow
@pytest.mark.parametrize(
    "target,num_heads,batches",
    [
        ("cpu", 1, (1, 3)),
        ("cpu", 2, (3, 1)),
        ("cpu", 1, (1, 1)),
        ("other", 2, (1, 3)),
        ("other", 1, (3, 1)),
        ("other", 2, (1, 1)),
    ],
)
def test_sides_shared_by_all_examples(target, num_heads, batches):
    queries = Tokens(normal(batches[0], 12, 5), normal(1, 12, 8, seed=3))
    latents = normal(batches[1], 9, LATENT_DIM, seed=1)
    assert_equals_textbook(target, AttentionForm(), 5, queries, latents, [2], num_heads)


@pytest.mark.slow
@pytest.mark.parametrize(
    "target,shape,chunk_size",
    [
        ("cpu", (3, 4), 5),
        ("cpu", (3, 4), None),
        ("cpu", (2, 3, 2), 4),
        ("other", (2, 3, 2), 5),
    ],
)
def test_queries_on_a_grid(target, shape, chunk_size):
    positions = FourierPositions(4, shape).rows_and_columns(shape)
    queries = Tokens(normal(2, 12, 5), positions, random_mask(2, 12, empty=False))
    latents = normal(2, 9, LATENT_DIM, seed=1)
    assert_equals_textbook(target, AttentionForm(), chunk_size, queries, latents, [2])


@pytest.mark.slow
@pytest.mark.usefixtures("for_cpu")
@pytest.mark.parametrize(
    "form,rates",
    [
        ("folded", dict(dropout=0.3)),
        ("folded", dict(attention_dropout=0.3)),
        ("unfolded", dict(dropout=0.3)),
        ("chunks", dict(attention_dropout=0.3)),
    ],
)
def test_chunks_drop_independently_and_equally_in_the_gradient(form, rates):
    queries = Tokens(jnp.tile(normal(1, 1, QUERY_DIM), (1, 12, 1)))
    latents, weights = normal(1, 9, LATENT_DIM, seed=1), random_weights()
    settings = DecoderSettings(
        CrossAttendSettings(num_heads=1, use_query_residual=True, **rates), 4
    )
    direction = normal(*latents.shape, seed=2)

    def run(step):
        rng, moved = jax.random.key(0), latents + step * direction
        return decode(weights, [], queries, moved, settings, rng=rng, form=FORMS[form])

    result = np.asarray(jax.jit(run)(0.0))
    first, second, third = np.split(result, 3, axis=1)
    assert np.abs(first - second).max() > 1e-3 and np.abs(second - third).max() > 1e-3
    total = jax.jit(lambda step: run(step).sum())
    slope = (total(1e-2) - total(-1e-2)) / 2e-2
    np.testing.assert_allclose(jax.grad(total)(0.0), slope, rtol=0.02)
