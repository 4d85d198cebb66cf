"""Attention in two steps: inputs are prepared once, then read by any subset of the queries.

With a single head, projections are folded into the cheaper side. On CPUs, inputs that outnumber the
queries are projected chunk by chunk rather than all at once.
"""

from typing import Literal, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from perceiver_io.models import sequence
from perceiver_io.models.attention import split_heads
from perceiver_io.models.fast import grids
from perceiver_io.models.fast.chunks import choose_chunk_size
from perceiver_io.models.fast.folding import Counts, FoldedAttention, Plan, apply, fold, plan
from perceiver_io.models.fast.heads import attention_by_heads
from perceiver_io.models.fast.kernels import Kernel, fused_attention, takes
from perceiver_io.models.fast.online import (
    Inputs,
    KeyMaps,
    KeysValues,
    Online,
    Rows,
    online_attention,
    rows_of,
)
from perceiver_io.models.fast.whole import Arrays, whole_attention
from perceiver_io.models.layers import layer_norm, linear
from perceiver_io.models.perceiver.tokens import GridPositions, Tokens
from perceiver_io.models.settings import AttentionForm
from perceiver_io.models.weights import Attention, LayerNorm, Linear

Target = Literal["cpu", "cuda", "other"]
"""The platform that a program is compiled for."""

_CPU_CHUNK_SIZE = 1024


class Way(NamedTuple):
    """How an attention is computed: its static settings.

    target: the platform.
    num_heads: number of heads.
    plan: how the projections of a single head are folded; None if they are not.
    chunk_size: maximum number of keys per chunk; None for all keys at once.
    query_rows: the form that queries take in products.
    input_rows: the form that inputs take in products.
    lazy: whether keys and values are computed chunk by chunk.
    dropout_rate: rate for the attention weights; 0 for no dropout.
    kernel: the fused kernel on NVIDIA GPUs.
    split: whether the inputs are split over devices.
    """

    target: Target
    num_heads: int
    plan: Plan | None
    chunk_size: int | None
    query_rows: Rows
    input_rows: Rows
    lazy: bool
    dropout_rate: float
    kernel: Kernel
    split: bool


class Norms(NamedTuple):
    """The norms of queries and of inputs; None where these are already normalised."""

    queries: LayerNorm | None = None
    inputs: LayerNorm | None = None


class Ready(NamedTuple):
    """Inputs prepared for attention.

    weights: weights of the attention.
    folded: its folded maps, if there is a plan.
    norms: norms of queries and inputs.
    source: keys and values, or the tokens that they are computed from.
    key_bias: added to the unscaled logits of each key.
    mask: False for inputs to ignore.
    """

    weights: Attention
    folded: FoldedAttention | None
    norms: Norms
    source: KeysValues | Tokens
    key_bias: Float[Array, "#B M"] | None
    mask: Bool[Array, "#B M"] | None


def choose_way(
    target: Target,
    form: AttentionForm,
    weights: Attention,
    norms: Norms,
    queries: Tokens,
    inputs: Tokens,
    *,
    num_heads: int,
    num_queries: int,
    dropout_rate: float,
) -> Way:
    """Chooses how to compute an attention.

    Args:
        target: the platform.
        form: the settings from the config.
        weights: weights of the attention.
        norms: norms of queries and inputs.
        queries: the queries of one call to `read`.
        inputs: what is attended to.
        num_heads: number of heads.
        num_queries: total number of queries over all calls to `read`.
        dropout_rate: rate for the attention weights; 0 for no dropout.
    """
    num_inputs = inputs.features.shape[1]
    split = sequence.splits(num_inputs, num_queries)
    chunk_size = form.key_chunk_size
    if chunk_size is None and target == "cpu":
        chunk_size = _CPU_CHUNK_SIZE
    if chunk_size is not None:
        rows = inputs._replace(mask=None)
        rows = sequence.of_one_device(rows) if split else rows
        chunk_size = choose_chunk_size(rows, min(chunk_size, rows.features.shape[1]))
    folds = num_heads == 1 and form.fold_projections
    lazy = folds and chunk_size is not None and num_inputs > max(num_queries, chunk_size)
    chosen = None
    if folds:
        in_factors = dict(
            query_grid=_factor_cost(target, norms.queries, queries, queries.features.shape[1]),
            input_grid=_factor_cost(target, norms.inputs, inputs, chunk_size) if lazy else None,
        )
        counts = Counts(num_queries, num_inputs)
        chosen = plan(weights, counts, drops=dropout_rate > 0, **in_factors)
    return Way(
        target,
        num_heads,
        chosen,
        chunk_size,
        _rows(norms.queries, chosen and chosen.query_grid),
        _rows(norms.inputs, chosen and chosen.input_grid),
        lazy,
        dropout_rate,
        # Fused kernels cannot take a part of the inputs.
        "none" if split else form.kernel,
        split,
    )


def _rows(norm: LayerNorm | None, grid: bool | None) -> Rows:
    if grid:
        return "grid"
    return "as_is" if norm is None else "standardised"


def _factor_cost(
    target: Target, norm: LayerNorm | None, tokens: Tokens, num_at_once: int
) -> float | None:
    """Multiply-adds per token for tokens in factorised form; None if they have no such form."""
    on_grid = isinstance(tokens.positions, GridPositions) and norm is not None
    if target != "cpu" or not on_grid:
        return None
    return grids.multiply_adds(tokens.features.shape[-1], tokens.positions, num_at_once)


def make_ready(
    way: Way, weights: Attention, norms: Norms, queries: Tokens, inputs: Tokens
) -> Ready:
    """Prepares inputs for `read` with queries like these."""
    source = inputs._replace(mask=None)
    if way.plan is None:
        x = _normalised(norms.inputs, source)
        # The key bias adds the same number to all logits of a query, which softmax ignores.
        keys = split_heads(x @ weights.key.weight, way.num_heads)
        values = split_heads(linear(weights.value, x), way.num_heads)
        return Ready(weights, None, norms, KeysValues(keys, values), None, inputs.mask)
    folded = fold(
        weights,
        way.plan,
        _lift(way.query_rows, norms.queries, queries),
        _lift(way.input_rows, norms.inputs, inputs),
    )
    if way.lazy:
        return Ready(weights, folded, norms, source, None, inputs.mask)
    x = rows_of(way.input_rows, source)
    keys_values = KeysValues(apply(folded.key, x)[:, :, None], apply(folded.value, x)[:, :, None])
    key_bias = None if folded.key_bias is None else x @ folded.key_bias
    return Ready(weights, folded, norms, keys_values, key_bias, inputs.mask)


def _lift(rows: Rows, norm: LayerNorm | None, tokens: Tokens) -> Linear | LayerNorm | None:
    """The map from tokens in the given form to normalised tokens."""
    if rows != "grid":
        return norm
    matrix = grids.lift(tokens.features.shape[-1], tokens.positions)
    return Linear(matrix * norm.scale, norm.offset)


def _normalised(norm: LayerNorm | None, tokens: Tokens) -> Float[Array, "#B M D"]:
    return tokens.joined() if norm is None else layer_norm(norm, tokens.joined())


def read(
    way: Way,
    ready: Ready,
    queries: Tokens,
    *,
    bias: Float[Array, "#B #H #O #M"] | None = None,
    rng: PRNGKeyArray | None,
) -> Float[Array, "B O E"]:
    """The result of attention for some of the queries; those whose mask is False see nothing.

    Args:
        way: how it is computed.
        ready: the prepared inputs.
        queries: the queries.
        bias: added to the scaled logits.
        rng: key for dropout of the attention weights; None turns dropout off.
    """
    scale = (ready.weights.query.weight.shape[-1] // way.num_heads) ** -0.5
    if ready.key_bias is not None:
        bias = scale * ready.key_bias[:, None, None].astype(jnp.float32)
    if way.lazy or (way.plan and way.plan.query_grid):
        attended = _read_online(way, ready, queries, bias, scale, rng)
    else:
        q = _projected_queries(way, ready, queries)
        keys, values = ready.source
        if way.chunk_size is None:
            arrays = Arrays(q, keys, values, bias)
            kernel = way.kernel if way.target == "cuda" else "none"
            if takes(kernel, arrays, key_mask=ready.mask, drops=way.dropout_rate > 0):
                attended = fused_attention(kernel, arrays, scale=scale)
            else:
                attended = whole_attention(
                    arrays, key_mask=ready.mask, scale=scale, dropout_rate=way.dropout_rate, rng=rng
                )
        else:
            attended = attention_by_heads(
                q, keys, values, bias=bias, key_mask=ready.mask, dropout_rate=way.dropout_rate,
                rng=rng, scale=scale, chunk_size=way.chunk_size, split=way.split,
            )  # fmt: skip
    return _output(way, ready, attended, queries.mask)


def _projected_queries(way: Way, ready: Ready, queries: Tokens) -> Float[Array, "#B O H K"]:
    if way.plan is None:
        x = _normalised(ready.norms.queries, queries)
        return split_heads(linear(ready.weights.query, x), way.num_heads)
    return apply(ready.folded.query, rows_of(way.query_rows, queries))[:, :, None]


def _read_online(way, ready, queries, bias, scale, rng) -> Float[Array, "B O 1 V"]:
    """A single head, with factorised queries or with keys and values computed chunk by chunk."""
    if way.plan.query_grid:
        q = rows_of(way.query_rows, queries)
    else:
        q = jnp.transpose(_projected_queries(way, ready, queries), (0, 2, 3, 1))
    if way.lazy:
        _, key, key_bias, value, _ = ready.folded
    else:
        key, key_bias, value = (), None, ()
    form = Online(way.chunk_size, scale, way.dropout_rate, way.input_rows, way.split)
    maps = KeyMaps(key, value, key_bias)
    bias = None if bias is None else jnp.transpose(bias, (0, 3, 1, 2))
    inputs = Inputs(ready.source, bias, ready.mask)
    attended = online_attention(form, q, maps, inputs, rng)
    return jnp.moveaxis(attended, -1, 1).astype(queries.features.dtype)


def _output(
    way: Way,
    ready: Ready,
    attended: Float[Array, "B O H V"],
    query_mask: Bool[Array, "#B O"] | None,
) -> Float[Array, "B O E"]:
    if query_mask is not None:
        attended = jnp.where(query_mask[:, :, None, None], attended, 0)
    if way.plan is None:
        return linear(ready.weights.output, attended.reshape(*attended.shape[:2], -1))
    result = apply(ready.folded.output, attended[:, :, 0])
    if way.plan.values != "attended" or (query_mask is None and ready.mask is None):
        return result
    # A query that sees no input gets no value, and so not the value bias either.
    sees = jnp.ones((1, 1), bool)
    if ready.mask is not None:
        sees = sees & ready.mask.any(axis=-1, keepdims=True)
    if query_mask is not None:
        sees = sees & query_mask
    return jnp.where(sees[..., None], result, ready.weights.output.bias)
