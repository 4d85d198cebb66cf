"""Folded projections of one-head attention: the same function as the plain ones, in fewer FLOPs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_io.models.attention import AttentionForm, Dropout, attend, attention_form
from perceiver_io.models.fast.folding import (
    Affine,
    AttentionWeights,
    Side,
    attended_queries,
    maps_of_sides,
    merged,
    plain_maps,
)
from perceiver_io.models.layers import Perceptron, project_residual
from tests import oracles

QUERY_DIM, INPUT_DIM, OUTPUT_DIM = 7, 8, 6
# Where each side is folded: queries, inputs, query/key width, value width; then the widths that
# show it: of the queries and of the values that attention sees.
FEW_QUERIES, FEW_INPUTS = (3, 20), (20, 3)
CASES = {
    "nothing": (FEW_QUERIES, 2, 2, 2, 2),
    "keys into queries": (FEW_QUERIES, 9, 2, INPUT_DIM, 2),
    "values after attention": (FEW_QUERIES, 2, 9, 2, INPUT_DIM),
    "keys into queries, values after attention": (FEW_QUERIES, 9, 10, INPUT_DIM, INPUT_DIM),
    "queries into keys": (FEW_INPUTS, 9, 2, QUERY_DIM, 2),
    "outputs into values": (FEW_INPUTS, 2, 9, 2, OUTPUT_DIM),
    "queries into keys, outputs into values": (FEW_INPUTS, 9, 10, QUERY_DIM, OUTPUT_DIM),
}


def random_weights(qk_dim, v_dim, seed=0):
    """Weights and biases of the four maps, none of them zero."""
    rng = np.random.default_rng(seed)

    def affine(rows, columns):
        weight = rng.normal(size=(rows, columns)) / np.sqrt(rows)
        return Affine(*(jnp.asarray(x, jnp.float32) for x in (weight, rng.normal(size=columns))))

    return AttentionWeights(
        query=affine(QUERY_DIM, qk_dim),
        key=affine(INPUT_DIM, qk_dim),
        value=affine(INPUT_DIM, v_dim),
        output=affine(v_dim, OUTPUT_DIM),
    )


def random_inputs(num_queries, num_inputs, batch=3):
    """Queries shared by all examples, inputs, and masks with one example that sees nothing."""
    rng = np.random.default_rng(1)
    queries = jnp.asarray(rng.normal(size=(1, num_queries, QUERY_DIM)), jnp.float32)
    inputs = jnp.asarray(rng.normal(size=(batch, num_inputs, INPUT_DIM)), jnp.float32)
    key_mask = rng.random((batch, num_inputs)) < 0.7
    key_mask[:, 0], key_mask[-1] = True, False
    query_mask = rng.random((batch, num_queries)) < 0.7
    return queries, inputs, jnp.asarray(key_mask), jnp.asarray(query_mask)


def folded_maps(weights, num_queries, num_inputs, dropout):
    sides = [
        Side(rows, len(weight), lambda x: x)
        for rows, weight in ((num_queries, weights.query.weight), (num_inputs, weights.key.weight))
    ]
    return maps_of_sides(weights, *sides, dropout=dropout)


def through(maps, queries, inputs, scale, key_mask=None, query_mask=None, **options):
    masks = dict(key_mask=key_mask, query_mask=query_mask)
    attended = attend(
        maps.query(queries), inputs, maps.keys_values, scale=scale, **masks, **options
    )
    return maps.output(attended, attended_queries(query_mask, key_mask, attended.dtype))


def values_and_gradients(function, *arguments):
    @jax.jit
    def both(*arguments):
        value, pullback = jax.vjp(function, *arguments)
        cotangent = np.random.default_rng(2).normal(size=value.shape)
        return value, pullback(jnp.asarray(cotangent, value.dtype))

    return both(*arguments)


@pytest.mark.parametrize("masked", [False, True], ids=["all", "masked"])
@pytest.mark.parametrize("chunk_size", [None, 2], ids=["plain", "chunked"])
@pytest.mark.parametrize("case", CASES)
def test_folded_equals_plain(case, masked, chunk_size):
    sizes, qk_dim, v_dim, query_width, value_width = CASES[case]
    queries, inputs, key_mask, query_mask = random_inputs(*sizes)
    scale = qk_dim**-0.5

    def with_maps(make_maps):
        def function(weights, queries, inputs):
            masks = dict(key_mask=key_mask, query_mask=query_mask) if masked else {}
            with attention_form(AttentionForm(key_chunk_size=chunk_size)):
                return through(make_maps(weights), queries, inputs, scale, **masks)

        return function

    def fold(weights):
        maps = folded_maps(weights, num_queries=sizes[0], num_inputs=sizes[1], dropout=False)
        assert maps.query(queries).shape[-2] == query_width
        assert maps.keys_values(inputs).values.shape[-1] == value_width
        return maps

    arguments = (random_weights(qk_dim, v_dim), queries, inputs)
    plain = values_and_gradients(with_maps(lambda w: plain_maps(w, 1)), *arguments)
    oracles.assert_close(values_and_gradients(with_maps(fold), *arguments), plain, 1e-5)
    of_weights, _, of_inputs = plain[1]
    assert all(np.abs(x).max() > 1e-3 for x in (of_weights.query.bias, of_weights.value.bias))
    assert not of_inputs[~key_mask].any() or not masked


@pytest.mark.parametrize("sizes", [FEW_QUERIES, FEW_INPUTS], ids=["few queries", "few inputs"])
def test_folded_equals_plain_under_dropout(sizes):
    """Dropped weights do not sum to one, so that a value bias cannot be added afterwards."""
    weights = random_weights(9, 10)
    queries, inputs, key_mask, query_mask = random_inputs(*sizes)
    folded = folded_maps(weights, num_queries=sizes[0], num_inputs=sizes[1], dropout=True)

    def run(maps):
        options = dict(key_mask=key_mask, query_mask=query_mask)
        dropout = Dropout(0.5, jax.random.key(0))
        return through(maps, queries, inputs, 0.3, dropout=dropout, **options)

    oracles.assert_close(run(folded), run(plain_maps(weights, 1)))


def test_plain_maps_split_heads_side_by_side():
    weights = random_weights(4, 6)
    queries, inputs, *_ = random_inputs(4, 5)
    maps = plain_maps(weights, 2)
    rows = maps.keys_values(inputs)
    keys = inputs @ weights.key.weight + weights.key.bias
    values = inputs @ weights.value.weight + weights.value.bias
    for head in range(2):
        np.testing.assert_array_equal(rows.keys[:, :, head], keys[..., 2 * head : 2 * head + 2])
        np.testing.assert_array_equal(rows.values[:, :, head], values[..., 3 * head : 3 * head + 3])
    assert maps.query(queries).shape == (1, 2, 2, 4)


@pytest.mark.parametrize(
    "queries,inputs,width,most",
    [(512, 50176, 261, 0.7), (182_528, 2048, 512, 0.7), (512, 512, 512, 1.0)],
    ids=["image encoder", "flow decoder", "latents"],
)
def test_folding_saves_flops(queries, inputs, width, most):
    """Counted by the compiler: the sizes are those of the published models."""
    query_dim, input_dim = (1024, 261) if queries < inputs else (322, 512)

    def flops(make_maps):
        def function(weights, x, y):
            return through(make_maps(weights), x, y, 1.0)

        def affine(rows, columns):
            return Affine(array(rows, columns), array(columns))

        array = lambda *shape: jax.ShapeDtypeStruct(shape, jnp.float32)  # noqa: E731
        weights = AttentionWeights(
            affine(query_dim, width),
            affine(input_dim, width),
            affine(input_dim, width),
            affine(width, query_dim),
        )
        with attention_form(AttentionForm(key_chunk_size=None)):
            lowered = jax.jit(function).lower(
                weights, array(1, queries, query_dim), array(1, inputs, input_dim)
            )
        return lowered.cost_analysis()["flops"]

    sizes = dict(num_queries=queries, num_inputs=inputs, dropout=False)
    folded = flops(lambda weights: folded_maps(weights, **sizes))
    assert folded <= most * flops(lambda weights: plain_maps(weights, 1))


def random_affine(rows, columns, seed):
    rng = np.random.default_rng(seed)
    shapes = (rows, columns), (columns,)
    return Affine(*(jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in shapes))


@pytest.mark.parametrize(
    ("widths", "num_rows", "shapes"),
    [
        ((6, 9, 2), 100, [(6, 2)]),
        ((6, 9, 2), 1, [(6, 9), (9, 2)]),
        ((6, 2, 9), 100, [(6, 2), (2, 9)]),
        ((6, 9, 8, 2), 100, [(6, 2)]),
    ],
    ids=["many rows", "one row", "a waist", "three maps"],
)
def test_adjacent_maps_merge_where_that_saves_flops(widths, num_rows, shapes):
    pairs = enumerate(zip(widths, widths[1:], strict=False))
    maps = [random_affine(*pair, seed) for seed, pair in pairs]
    x = jnp.asarray(np.random.default_rng(9).normal(size=(3, widths[0])), jnp.float32)

    def through(maps):
        y = x
        for layer in maps:
            y = layer(y)
        return y

    assert [m.weight.shape for m in merged(maps, num_rows)] == shapes
    oracles.assert_close(
        values_and_gradients(lambda maps: through(merged(maps, num_rows)), maps),
        values_and_gradients(through, maps),
    )


@pytest.mark.parametrize(("outputs", "direct"), [(2, True), (9, False)])
def test_an_mlp_goes_straight_to_narrow_outputs(outputs, direct):
    mlp = Perceptron(lambda x: x, random_affine(6, 12, 0), jnp.tanh, random_affine(12, 6, 1))
    project = random_affine(6, outputs, 2)
    x = jnp.asarray(np.random.default_rng(9).normal(size=(3, 6)), jnp.float32)

    def folded(x, hidden, output, project):
        parts = mlp._replace(hidden=hidden, output=output)
        return project_residual(parts, project, num_rows=100)(x)

    def plain(x, hidden, output, project):
        return project(x + mlp._replace(hidden=hidden, output=output)(x))

    arguments = (x, mlp.hidden, mlp.output, project)
    oracles.assert_close(
        values_and_gradients(folded, *arguments), values_and_gradients(plain, *arguments)
    )
    products = str(jax.make_jaxpr(lambda x: folded(x, *arguments[1:]))(x)).count("f32[3,6] = dot")
    assert products == (0 if direct else 1)
