"""The linear layers around attention, and how they multiply into each other.

With one head, (x Wk) . q = x . (q Wk^T) and A (x Wv) = (A x) Wv: the projection of the many can
move to the side of the few. The function stays the same:

- a key bias adds the same number to every logit of a query, which softmax ignores;
- a query bias adds one number per key;
- a value bias passes through the weights, which sum to one (unless dropout thins them).

Normalised tokens of a grid, too, are a linear map of what takes less to multiply with (see
`grids.py`), and that map folds into the projections. Linear maps with nothing between them multiply
into one.
"""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from perceiver_io.models.layers import gelu, layer_norm, linear
from perceiver_io.models.weights import MLP, Attention, LayerNorm, Linear


class Map(NamedTuple):
    """X W + b; either is left out where it is None."""

    weight: Float[Array, "I J"] | None
    bias: Float[Array, " J"] | None


Maps = tuple[Map, ...]
"""Maps that are applied one after the other."""


def apply(maps: Maps, x: Float[Array, "... I"]) -> Float[Array, "... J"]:
    """X through the maps."""
    for weight, bias in maps:
        x = x if weight is None else x @ weight
        x = x if bias is None else x + bias
    return x


class Plan(NamedTuple):
    """On which side of one-head attention each projection is done.

    scores: `both` sides are projected; the projection of keys moves to the `queries`; that of
        queries moves to the `inputs`.
    values: inputs are projected to values; the `output` layer moves to the inputs, too; both
        layers are applied to the `attended` inputs.
    query_grid: whether queries are a grid's tokens in factors.
    input_grid: whether keys and values are.
    """

    scores: Literal["both", "queries", "inputs"]
    values: Literal["inputs", "output", "attended"]
    query_grid: bool = False
    input_grid: bool = False


class Counts(NamedTuple):
    """How many queries and inputs there are per example."""

    queries: int
    inputs: int


def plan(
    weights: Attention,
    counts: Counts,
    *,
    drops: bool,
    query_grid: float | None = None,
    input_grid: float | None = None,
) -> Plan:
    """The plan with the fewest multiply-adds.

    Args:
        weights: of an attention with a single head.
        counts: of queries and inputs.
        drops: whether attention weights are dropped, so that they do not sum to one.
        query_grid: multiply-adds of a query that is in factors with one vector; None if it is not.
        input_grid: the same for an input.
    """
    values = ("inputs", "output") if drops else ("inputs", "output", "attended")
    plans = [Plan(s, v) for s in ("both", "queries", "inputs") for v in values]
    if query_grid is not None:
        plans += [Plan("inputs", v, query_grid=True) for v in values]
    if input_grid is not None and not drops:
        plans.append(Plan("queries", "attended", input_grid=True))
    return min(plans, key=lambda p: _multiply_adds(p, weights, counts, query_grid, input_grid))


def _multiply_adds(
    plan: Plan,
    weights: Attention,
    counts: Counts,
    query_grid: float | None,
    input_grid: float | None,
) -> int | float:
    query_dim, qk_dim = weights.query.weight.shape
    input_dim, v_dim = weights.value.weight.shape
    output_dim = weights.output.weight.shape[1]
    of_queries, of_inputs, pairs = counts.queries, counts.inputs, math.prod(counts)
    query_product = query_grid if plan.query_grid else query_dim
    input_product = input_grid if plan.input_grid else input_dim
    query_projection, key_projection = (
        of_queries * query_dim * qk_dim,
        of_inputs * input_dim * qk_dim,
    )
    scores = {
        "both": query_projection + key_projection + pairs * qk_dim,
        "queries": query_projection + of_queries * qk_dim * input_dim + pairs * input_product,
        "inputs": key_projection + of_inputs * qk_dim * query_dim + pairs * query_product,
    }
    value_projection, output_projection = input_dim * v_dim, v_dim * output_dim
    values = {
        "inputs": of_inputs * value_projection + pairs * v_dim + of_queries * output_projection,
        "output": of_inputs * (value_projection + output_projection) + pairs * output_dim,
        "attended": of_queries * (value_projection + output_projection) + pairs * input_product,
    }
    return scores[plan.scores] + values[plan.values]


class FoldedAttention(NamedTuple):
    """One-head attention as maps of queries, of inputs and of what was attended to.

    `key_bias`, times an input, is added to its logit for every query.
    """

    query: Maps
    key: Maps
    key_bias: Float[Array, " D"] | None
    value: Maps
    output: Maps


def fold(
    weights: Attention,
    plan: Plan,
    query_lift: Linear | LayerNorm | None,
    input_lift: Linear | LayerNorm | None,
) -> FoldedAttention:
    """The maps of a plan.

    Args:
        weights: of an attention with a single head.
        plan: where each projection is done.
        query_lift: from what the queries are taken as to normalised ones: a linear map of a grid's
            factors, scale and offset of a norm, or None for queries that are normalised.
        input_lift: the same for inputs.
    """
    query, key, value, output = weights
    query, key, value = (
        lifted(query_lift, query), lifted(input_lift, key), lifted(input_lift, value)
    )  # fmt: skip
    queries, keys, key_bias = {
        "both": ((Map(*query),), (Map(*key),), None),
        "queries": ((Map(*query), Map(key.weight.T, None)), (), None),
        "inputs": ((), (Map(*key), Map(query.weight.T, None)), key.weight @ query.bias),
    }[plan.scores]
    values, outputs = {
        "inputs": ((Map(*value),), (Map(*output),)),
        "output": ((Map(*value), Map(output.weight, None)), (Map(None, output.bias),)),
        "attended": ((), (Map(*value), Map(*output))),
    }[plan.values]
    return FoldedAttention(queries, keys, key_bias, values, outputs)


def lifted(lift: Linear | LayerNorm | None, layer: Linear) -> Linear:
    """A layer after a lift, as one."""
    if lift is None:
        return layer
    if isinstance(lift, Linear):
        return then(lift, layer)
    return Linear(lift.scale[:, None] * layer.weight, linear(layer, lift.offset))


def then(first: Linear, second: Linear) -> Linear:
    """Two linear maps as one."""
    return Linear(first.weight @ second.weight, linear(second, first.bias))


def merged(maps: Sequence[Linear], num_rows: int) -> list[Linear]:
    """Maps to be applied in turn, adjacent ones multiplied where that takes fewer FLOPs.

    Args:
        maps: the maps, first one first.
        num_rows: rows that they are applied to.
    """
    *others, last = maps
    result = [last]
    for first in reversed(others):
        (inputs, inner), (_, outputs) = first.weight.shape, result[0].weight.shape
        together = inputs * inner * outputs + num_rows * inputs * outputs
        if together < num_rows * (inputs * inner + inner * outputs):
            result[0] = then(first, result[0])
        else:
            result.insert(0, first)
    return result


def project_residual_mlp(
    norm: LayerNorm,
    mlp: MLP,
    output: Linear,
    x: Float[Array, "B O C"],
    *,
    exact_gelu: bool,
    num_rows: int,
) -> Float[Array, "B O E"]:
    """X plus its MLP, through a linear map, with the fewest FLOPs.

    (x + h W) P = x P + h (W P): the MLP's last map goes straight to a narrower output.
    """
    hidden = gelu(linear(mlp.hidden, layer_norm(norm, x)), exact_gelu)
    (inner, width), outputs = mlp.output.weight.shape, output.weight.shape[1]
    direct = num_rows * (width + inner) * outputs + inner * width * outputs
    if direct >= num_rows * width * (inner + outputs):
        return linear(output, x + linear(mlp.output, hidden))
    last = then(mlp.output, output._replace(bias=jnp.zeros_like(output.bias)))
    return linear(output, x) + linear(last, hidden)
