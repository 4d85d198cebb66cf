"""Folding the linear layers around attention into each other.

With a single head, (x Wk) . q = x . (q Wk^T) and A (x Wv) = (A x) Wv: a projection of the larger
side can move to the smaller side. The function stays the same:

- a key bias adds the same number to every logit of a query, which softmax ignores;
- a query bias adds one number per key;
- a value bias passes through the weights, which sum to one (unless dropout is active).

Normalised tokens of a grid, too, are a linear map of something cheaper to multiply with (see
`grids.py`), and that map is folded into the projections. Adjacent linear maps are multiplied into
one.
"""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from perceiver_io.models.layers import gelu, layer_norm, linear
from perceiver_io.models.weights import MLP, Attention, LayerNorm, Linear


class Map(NamedTuple):
    """X W + b; either is omitted if None."""

    weight: Float[Array, "I J"] | None
    bias: Float[Array, " J"] | None


Maps = tuple[Map, ...]
"""Maps to be applied one after the other."""


def apply(maps: Maps, x: Float[Array, "... I"]) -> Float[Array, "... J"]:
    """Applies the maps to `x`."""
    for weight, bias in maps:
        x = x if weight is None else x @ weight
        x = x if bias is None else x + bias
    return x


class Plan(NamedTuple):
    """On which side of single-head attention each projection is computed.

    scores: `both` sides are projected; or the key projection moves to the `queries`; or the query
        projection moves to the `inputs`.
    values: `inputs` are projected to values; or the `output` layer moves to the inputs too; or both
        layers are applied to the `attended` inputs.
    query_grid: whether queries are tokens of a grid in factorised form.
    input_grid: whether keys and values are.
    """

    scores: Literal["both", "queries", "inputs"]
    values: Literal["inputs", "output", "attended"]
    query_grid: bool = False
    input_grid: bool = False


class Counts(NamedTuple):
    """The numbers of queries and inputs per example."""

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
        weights: weights of an attention with a single head.
        counts: numbers of queries and inputs.
        drops: whether dropout is applied to attention weights, which then do not sum to one.
        query_grid: multiply-adds of a factorised query with a vector; None if queries have no such
            form.
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
    """Single-head attention as maps of the queries, of the inputs and of attention's result.

    The dot product of `key_bias` with an input is added to that input's logits.
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
    """The maps that a plan results in.

    Args:
        weights: weights of an attention with a single head.
        plan: where each projection is computed.
        query_lift: maps the form that queries take in products to normalised queries: a linear map
            for factorised tokens, a norm's scale and offset, or None if queries are normalised.
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
    """A lift followed by a layer, as one layer."""
    if lift is None:
        return layer
    if isinstance(lift, Linear):
        return then(lift, layer)
    return Linear(lift.scale[:, None] * layer.weight, linear(layer, lift.offset))


def then(first: Linear, second: Linear) -> Linear:
    """Two linear maps as one."""
    return Linear(first.weight @ second.weight, linear(second, first.bias))


def merged(maps: Sequence[Linear], num_rows: int) -> list[Linear]:
    """The maps, with adjacent ones multiplied into one where that takes fewer FLOPs.

    Args:
        maps: the maps in the order in which they are applied.
        num_rows: number of rows that they are applied to.
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
    """A residual MLP followed by a linear map, with the fewest FLOPs.

    (x + h W) P = x P + h (W P): the MLP's last layer maps directly to a narrower output.
    """
    hidden = gelu(linear(mlp.hidden, layer_norm(norm, x)), exact_gelu)
    (inner, width), outputs = mlp.output.weight.shape, output.weight.shape[1]
    direct = num_rows * (width + inner) * outputs + inner * width * outputs
    if direct >= num_rows * width * (inner + outputs):
        return linear(output, x + linear(mlp.output, hidden))
    last = then(mlp.output, output._replace(bias=jnp.zeros_like(output.bias)))
    return linear(output, x) + linear(last, hidden)
