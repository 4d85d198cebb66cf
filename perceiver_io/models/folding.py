"""The linear maps around attention, and how they fold into each other.

With one head, (x Wk) . q = x . (q Wk^T) and A (x Wv) = (A x) Wv: the projection of the many can
move to the side of the few, and adjacent maps multiply into one. The function stays the same:

- a key bias adds the same number to every logit of a query, which softmax ignores;
- a query bias adds one number per key;
- a value bias passes through the weights, which sum to one (unless dropout thins them).

Maps with nothing between them multiply into one. Normalised tokens of a grid, too, are a linear map
of what takes less to multiply with (see `grids.py`), and that map folds into the projections.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from perceiver_io.models.grids import GridRows, KeysOfGrid
from perceiver_io.models.keys_values import KeysValues


class Affine(NamedTuple):
    """x W + b."""

    weight: Float[Array, "I J"]
    bias: Float[Array, " J"]

    def __call__(self, x: Float[Array, "... I"]) -> Float[Array, "... J"]:
        """Applies the map to the last axis."""
        return x @ self.weight + self.bias

    def then(self, other: "Affine") -> "Affine":
        """This map followed by another, as one."""
        return Affine(self.weight @ other.weight, other(self.bias))


class AttentionWeights(NamedTuple):
    """The four learned maps of multi-head attention, heads side by side in the columns."""

    query: Affine
    key: Affine
    value: Affine
    output: Affine


class Grid(NamedTuple):
    """Normalised tokens of a grid, written so that products with them take few FLOPs.

    rows: any part of the tokens -> X.
    lift: X through this map is the normalised tokens.
    multiply_adds: what a product of one row of X with one vector takes.
    """

    rows: Callable[[Any], GridRows]
    lift: Affine
    multiply_adds: float


class Side(NamedTuple):
    """The queries of an attention, or its inputs.

    num_rows: how many there are per example, in all parts together.
    width: of each.
    rows: any part of what they are made from -> [B, m, width].
    grid: the same for tokens of a grid; None for others.
    """

    num_rows: int
    width: int
    rows: Callable[[Any], Array]
    grid: Grid | None = None


class AttentionMaps(NamedTuple):
    """What is done around the attention itself.

    query: [b, O, Cq] -> [b, H, K, O]; keys_values: [B, M, C] -> KeysValues;
    output: [B, O, H, V], and 1 or 0 for queries that attended to something or nothing -> [B, O, E].
    """

    query: Callable
    keys_values: Callable
    output: Callable


def plain_maps(weights: AttentionWeights, num_heads: int) -> AttentionMaps:
    """Projects each of queries, keys, values and outputs, as in Vaswani et al. (1706.03762)."""

    def split(x):
        return x.reshape(*x.shape[:-1], num_heads, x.shape[-1] // num_heads)

    return AttentionMaps(
        query=lambda x: jnp.transpose(split(weights.query(x)), (0, 2, 3, 1)),
        keys_values=lambda x: KeysValues(split(weights.key(x)), split(weights.value(x))),
        output=lambda y, attended: weights.output(y.reshape(*y.shape[:2], -1)),
    )


def maps_of_sides(
    weights: AttentionWeights, queries: Side, inputs: Side, *, dropout: bool
) -> AttentionMaps:
    """The maps of one-head attention with the fewest FLOPs, with grids where they save some.

    Args:
        weights: of an attention with a single head.
        queries: what the queries are made from.
        inputs: what keys and values are made from.
        dropout: whether attention weights are dropped, so that they do not sum to one.
    """
    cost, maps = _folded(weights, queries.num_rows, inputs.num_rows, dropout)
    options = [(cost, from_sources(maps, queries, inputs))]
    # Keys and values of few inputs are made once and held, for which X is no form.
    if inputs.grid and not dropout and queries.num_rows < inputs.num_rows:
        options.append(_with_input_grid(weights, queries, inputs))
    if queries.grid:
        options.append(_with_query_grid(weights, queries, inputs, dropout))
    return min(options, key=_cost)[1]


def from_sources(maps: AttentionMaps, queries: Side, inputs: Side) -> AttentionMaps:
    """Maps of rows as maps of what the rows are made from."""
    return maps._replace(
        query=lambda part: maps.query(queries.rows(part)),
        keys_values=lambda part: maps.keys_values(inputs.rows(part)),
    )


def _folded(weights, num_queries, num_inputs, dropout):
    """(multiply-adds, maps) of rows."""
    score_cost, query, keys, key_bias = min(
        _score_options(weights, num_queries, num_inputs), key=_cost
    )
    value_cost, values, output = min(
        _value_options(weights, num_queries, num_inputs, dropout), key=_cost
    )
    return score_cost + value_cost, AttentionMaps(
        query=lambda x: jnp.swapaxes(query(x), 1, 2)[:, None],
        keys_values=lambda x: KeysValues(keys(x)[:, :, None], values(x)[:, :, None], key_bias(x)),
        output=lambda y, attended: output(y[:, :, 0], attended),
    )


def _with_input_grid(weights, queries, inputs):
    """The same where keys and values are X itself."""
    _, lift, multiply_adds = inputs.grid
    lifted = weights._replace(key=lift.then(weights.key), value=lift.then(weights.value))
    sizes = lifted, queries.num_rows, inputs.num_rows
    _, (score_cost, query, *_), _ = _score_options(*sizes, input_cost=multiply_adds)
    *_, (value_cost, _, output) = _value_options(*sizes, False, input_cost=multiply_adds)
    return score_cost + value_cost, AttentionMaps(
        query=lambda part: jnp.swapaxes(query(queries.rows(part)), 1, 2)[:, None],
        keys_values=inputs.grid.rows,
        output=lambda y, attended: output(y[:, :, 0], attended),
    )


def _with_query_grid(weights, queries, inputs, dropout):
    """The same where queries are X itself."""
    _, lift, multiply_adds = queries.grid
    lifted = weights._replace(query=lift.then(weights.query))
    sizes = lifted, queries.num_rows, inputs.num_rows
    *_, (score_cost, _, keys, key_bias) = _score_options(*sizes, query_cost=multiply_adds)
    value_cost, values, output = min(_value_options(*sizes, dropout), key=_cost)

    def keys_values(part):
        x = inputs.rows(part)
        return KeysOfGrid(keys(x)[:, :, None], values(x)[:, :, None], key_bias(x))

    return score_cost + value_cost, AttentionMaps(
        query=queries.grid.rows,
        keys_values=keys_values,
        output=lambda y, attended: output(y[:, :, 0], attended),
    )


def _cost(option):
    return option[0]


def _identity(x):
    return x


def _score_options(
    weights: AttentionWeights,
    num_queries: int,
    num_inputs: int,
    input_cost: float | None = None,
    query_cost: float | None = None,
):
    """(multiply-adds, query map, key map, key bias) for each side that logits may be taken on.

    `input_cost` and `query_cost` are the multiply-adds of one input or query with a vector of its
    width, where they are fewer than that width.
    """
    query, key = weights.query, weights.key
    query_dim, qk_dim = query.weight.shape
    input_dim, _ = key.weight.shape
    project_queries = num_queries * query_dim * qk_dim
    project_keys = num_inputs * input_dim * qk_dim
    pairs = num_queries * num_inputs
    return [
        (project_queries + project_keys + pairs * qk_dim, query, key, lambda x: None),
        (
            project_queries + num_queries * qk_dim * input_dim + pairs * (input_cost or input_dim),
            lambda x: query(x) @ key.weight.T,
            _identity,
            lambda x: None,
        ),
        (
            project_keys + num_inputs * qk_dim * query_dim + pairs * (query_cost or query_dim),
            _identity,
            lambda x: key(x) @ query.weight.T,
            lambda x: x @ (key.weight @ query.bias),
        ),
    ]


def _value_options(
    weights: AttentionWeights,
    num_queries: int,
    num_inputs: int,
    dropout: bool,
    input_cost: float | None = None,
):
    """(multiply-adds, value map, output map) for each place that values may be projected at."""
    value, output = weights.value, weights.output
    input_dim, v_dim = value.weight.shape
    _, output_dim = output.weight.shape
    project_values = num_inputs * input_dim * v_dim
    project_outputs = num_queries * v_dim * output_dim
    pairs = num_queries * num_inputs

    def project_attended(y, attended):
        return output(y @ value.weight + attended[:, :, None] * value.bias)

    options = [
        (project_values + pairs * v_dim + project_outputs, value, lambda y, attended: output(y)),
        (
            project_values + num_inputs * v_dim * output_dim + pairs * output_dim,
            lambda x: value(x) @ output.weight,
            lambda y, attended: y + output.bias,
        ),
    ]
    late = num_queries * input_dim * v_dim + pairs * (input_cost or input_dim) + project_outputs
    return options if dropout else [*options, (late, _identity, project_attended)]


def merged(maps: Sequence[Affine], num_rows: int) -> list[Affine]:
    """Maps to be applied in turn, adjacent ones multiplied where that takes fewer FLOPs.

    Args:
        maps: the maps, first one first.
        num_rows: rows that they are applied to.
    """
    *others, last = maps
    result = [last]
    for first in reversed(others):
        second = result[0]
        (inputs, inner), (_, outputs) = first.weight.shape, second.weight.shape
        together = inputs * inner * outputs + num_rows * inputs * outputs
        if together < num_rows * (inputs * inner + inner * outputs):
            result[0] = first.then(second)
        else:
            result.insert(0, first)
    return result


def attended_queries(
    query_mask: Array | None, key_mask: Array | None, dtype: jnp.dtype
) -> Float[Array, "B O"]:
    """1 for queries that attend to at least one key, 0 for the others; [1, 1] ones if no masks."""
    attended = jnp.ones((1, 1), bool)
    if key_mask is not None:
        attended = attended & key_mask.any(axis=-1, keepdims=True)
    if query_mask is not None:
        attended = attended & query_mask
    return attended.astype(dtype)
