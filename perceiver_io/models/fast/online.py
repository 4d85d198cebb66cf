"""Attention over chunks of keys with an online softmax: memory linear in the number of keys.

A running maximum, denominator and numerator of the softmax are kept (Rabe and Staats, 2112.05682).
The backward pass recomputes each chunk's weights from the logits and their log-sum-exp (Dao et al.,
2205.14135), so that the full attention matrix is never stored. Keys and values, too, can be
projected from the inputs chunk by chunk.
"""

import functools
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jax.sharding import PartitionSpec
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from perceiver_io.models import sequence
from perceiver_io.models.fast import grids
from perceiver_io.models.fast.chunks import chunk, first_chunk, num_rows, padded, put_chunk
from perceiver_io.models.fast.folding import Maps, apply
from perceiver_io.models.fast.grids import GridRows
from perceiver_io.models.fast.products import ATTENDED, batched_product
from perceiver_io.models.layers import dropout, standardised
from perceiver_io.models.perceiver.tokens import Tokens
from perceiver_io.models.sequence import Sums

# Finite rather than -inf, so that a fully masked row contains no NaN before it is zeroed.
MASKED_LOGIT = -1e30

Rows = Literal["grid", "standardised", "as_is"]

Queries = Float[Array, "#B H K O"] | GridRows


class KeysValues(NamedTuple):
    """Keys and values."""

    keys: Float[Array, "#B M H K"]
    values: Float[Array, "#B M H V"]


class KeyMaps(NamedTuple):
    """How keys and values of a single head are computed from tokens.

    key, value: linear maps of the tokens, as rows.
    key_bias: its dot product with a row is added to the logits of that key.
    """

    key: Maps
    value: Maps
    key_bias: Float[Array, " D"] | None


class Inputs(NamedTuple):
    """What is attended to; chunked along M.

    source: keys and values, or the tokens that they are computed from.
    bias: added to the scaled logits, with keys along the second axis.
    mask: False for keys to ignore.
    """

    source: KeysValues | Tokens
    bias: Float[Array, "#B M #H #O"] | None
    mask: Bool[Array, "#B M"] | None


class Online(NamedTuple):
    """Static settings.

    chunk_size: number of keys per chunk.
    scale: factor on the logits.
    dropout_rate: rate for the attention weights.
    rows: the form of tokens: factorised `grid`, `standardised` rows, or rows `as_is`.
    split: whether the inputs are split over devices; then each has chunks of its own part.
    """

    chunk_size: int
    scale: float
    dropout_rate: float
    rows: Rows
    split: bool


class _Products(NamedTuple):
    """Keys and values laid out for products with the queries, and a bias on the logits."""

    keys: Float[Array, "#B H M K"] | GridRows
    values: Float[Array, "#B H V M"] | GridRows
    bias: Float[Array, "#B #H M #O"] | None


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def online_attention(
    form: Online, queries: Queries, maps: KeyMaps, inputs: Inputs, rng: PRNGKeyArray | None
) -> Float[Array, "B H V O"]:
    """Attention in float32; zeros for a query that sees no key.

    Args:
        form: static settings.
        queries: queries of all heads.
        maps: how keys and values are computed if the inputs are tokens.
        inputs: what is attended to.
        rng: key for dropout of the attention weights; None turns dropout off.
    """
    return _forward(form, queries, maps, inputs, rng)[0]


def _forward(form, queries, maps, inputs, rng):
    """The attention, and the log-sum-exp of each query's logits."""
    forward = functools.partial(_forward_of_part, form)
    if not form.split:
        return forward(queries, maps, inputs, rng)
    shared, specs = PartitionSpec(), sequence.specs(inputs)
    return sequence.on_each_device(
        forward, (queries, maps, inputs, rng), (shared, shared, specs, shared), shared
    )


def _forward_of_part(form, queries, maps, inputs, rng):
    inputs = _in_whole_chunks(inputs, form.chunk_size)
    rng = _own_rng(form, rng)

    def add(sums, index):
        part = chunk(inputs, index, form.chunk_size)
        products = _products(form, maps, part)
        logits = _logits(form, queries, products)
        if part.mask is not None:
            logits = jnp.where(part.mask[:, None, :, None], logits, MASKED_LOGIT)
        maximum = jnp.maximum(sums.maximum, logits.max(axis=-2))
        weights = _weights(logits, maximum, part.mask)
        decay = jnp.exp(sums.maximum - maximum)
        thinned = dropout(weights, form.dropout_rate, _chunk_rng(rng, index))
        return Sums(
            maximum,
            sums.denominator * decay + weights.sum(axis=-2),
            sums.numerator * decay[:, :, None] + _weighted(products.values, thinned),
        ), None

    count = num_rows(inputs) // form.chunk_size
    sums = _no_sums(form, queries, maps, inputs)
    sums, _ = jax.lax.scan(add, sums, jnp.arange(count))
    sums = sequence.combined(sums) if form.split else sums
    seen = sums.denominator > 0
    denominator = jnp.where(seen, sums.denominator, 1)
    attended = sums.numerator / denominator[:, :, None]
    log_sum = jnp.where(seen, sums.maximum, 0) + jnp.log(denominator)
    return attended, log_sum


def _forward_and_residuals(form, queries, maps, inputs, rng):
    attended, log_sum = checkpoint_name(_forward(form, queries, maps, inputs, rng), ATTENDED)
    return attended, (queries, maps, inputs, rng, attended, log_sum)


def _backward(form, residuals, cotangent):
    backward = functools.partial(_backward_of_part, form)
    if form.split:
        *_, inputs, _, _, _ = residuals
        shared, specs = PartitionSpec(), sequence.specs(inputs)
        in_specs = (shared, shared, specs, shared, shared, shared), shared
        out = shared, shared, specs._replace(mask=None)
        gradients = sequence.on_each_device(backward, (residuals, cotangent), in_specs, out)
    else:
        gradients = backward(residuals, cotangent)
    return *gradients, None


def _backward_of_part(form, residuals, cotangent):
    """The gradients by queries, maps and inputs."""
    queries, maps, inputs, rng, attended, log_sum = residuals
    rng = _own_rng(form, rng)
    whole = _in_whole_chunks(inputs, form.chunk_size)
    # The softmax's gradient: the part common to all weights of a query, which sum to one.
    common = (cotangent * attended).sum(axis=-2)

    def add(gradients, index):
        part = chunk(whole, index, form.chunk_size)

        def multiply(queries, maps, source, bias):
            products = _products(form, maps, Inputs(source, bias, None))
            logits = _logits(form, queries, products)
            # Examples may differ in nothing but the mask.
            return jnp.broadcast_to(logits, (len(log_sum), *logits.shape[1:])), products.values

        (logits, values), pull_products = jax.vjp(multiply, queries, maps, part.source, part.bias)
        weights = _weights(logits, log_sum, part.mask)

        def weigh(weights, values):
            thinned = dropout(weights, form.dropout_rate, _chunk_rng(rng, index))
            return _weighted(values, thinned)

        _, pull_weighted = jax.vjp(weigh, weights, values)
        of_weights, of_values = pull_weighted(cotangent)
        of_logits = weights * (of_weights - common[:, :, None])
        *of_sides, of_source, of_bias = pull_products((of_logits, of_values))
        sides, source, bias = gradients
        return (
            jax.tree.map(lambda x, part: x + part.astype(x.dtype), sides, tuple(of_sides)),
            put_chunk(source, of_source, index),
            put_chunk(bias, of_bias, index),
        ), None

    count = num_rows(whole) // form.chunk_size
    # Accumulated over chunks in float32.
    sides = jax.tree.map(lambda x: jnp.zeros(x.shape, jnp.float32), (queries, maps))
    rows = jax.tree.map(jnp.zeros_like, (whole.source, whole.bias))
    (sides, *rows), _ = jax.lax.scan(add, (sides, *rows), jnp.arange(count))
    if form.split:
        sides, rows = sequence.added(sides), sequence.added_if_shared(rows)
    queries, maps = jax.tree.map(lambda x, like: x.astype(like.dtype), sides, (queries, maps))
    source, bias = jax.tree.map(
        lambda x, like: x[:, : like.shape[1]], tuple(rows), (inputs.source, inputs.bias)
    )
    return queries, maps, Inputs(source, bias, None)


online_attention.defvjp(_forward_and_residuals, _backward)


def _in_whole_chunks(inputs: Inputs, size: int) -> Inputs:
    rows = num_rows(inputs)
    if rows % size and inputs.mask is None:
        inputs = inputs._replace(mask=jnp.ones((1, rows), bool))
    return padded(inputs, size)


def _products(form: Online, maps: KeyMaps, inputs: Inputs) -> _Products:
    bias = None if inputs.bias is None else jnp.moveaxis(inputs.bias, 1, 2)
    if isinstance(inputs.source, KeysValues):
        keys, values = inputs.source
        return _Products(
            jnp.transpose(keys, (0, 2, 1, 3)), jnp.transpose(values, (0, 2, 3, 1)), bias
        )
    rows = rows_of(form.rows, inputs.source)
    if isinstance(rows, GridRows):
        return _Products(rows, rows, bias)
    keys, values = apply(maps.key, rows), apply(maps.value, rows)
    if maps.key_bias is not None:
        of_keys = form.scale * (rows @ maps.key_bias)[:, None, :, None]
        bias = of_keys if bias is None else bias + of_keys
    return _Products(keys[:, None], jnp.swapaxes(values, 1, 2)[:, None], bias)


def rows_of(rows: Rows, tokens: Tokens) -> Float[Array, "#B M D"] | GridRows:
    """The tokens in the given form, ready for products."""
    if rows == "grid":
        return grids.standardised(tokens.features, tokens.positions)
    return standardised(tokens.joined()) if rows == "standardised" else tokens.joined()


def _logits(form: Online, queries: Queries, products: _Products) -> Float[Array, "B H M O"]:
    keys = products.keys
    if isinstance(queries, GridRows):
        logits = queries.query_logits(keys * form.scale)
    elif isinstance(keys, GridRows):
        logits = keys.key_logits(queries * form.scale)
    else:
        logits = batched_product(keys, queries * form.scale)
    return logits if products.bias is None else logits + products.bias.astype(jnp.float32)


def _weights(
    logits: Float[Array, "#B H M O"],
    subtracted: Float[Array, "#B H O"],
    mask: Bool[Array, "#B M"] | None,
) -> Float[Array, "B H M O"]:
    weights = jnp.exp(logits - subtracted[:, :, None])
    return weights if mask is None else jnp.where(mask[:, None, :, None], weights, 0)


def _weighted(
    values: Float[Array, "#B H V M"] | GridRows, weights: Float[Array, "B H M O"]
) -> Float[Array, "B H V O"]:
    if isinstance(values, GridRows):
        return values.weighted(weights)
    return batched_product(values, weights.astype(values.dtype))


def _no_sums(form, queries, maps, inputs) -> Sums:
    def shapes(queries, maps, part):
        products = _products(form, maps, part)
        logits = _logits(form, queries, products)
        return _weighted(products.values, _weights(logits, logits.max(axis=-2), part.mask))

    part = first_chunk(inputs, form.chunk_size)
    weighted = jax.eval_shape(shapes, queries, maps, part)
    row = (*weighted.shape[:2], weighted.shape[-1])
    return Sums(
        maximum=jnp.full(row, MASKED_LOGIT, jnp.float32),
        denominator=jnp.zeros(row, jnp.float32),
        numerator=jnp.zeros(weighted.shape, jnp.float32),
    )


def _own_rng(form: Online, rng: PRNGKeyArray | None) -> PRNGKeyArray | None:
    """Devices that have different inputs draw different numbers."""
    return rng if rng is None or not form.split else jax.random.fold_in(rng, sequence.index())


def _chunk_rng(rng: PRNGKeyArray | None, index) -> PRNGKeyArray | None:
    return None if rng is None else jax.random.fold_in(rng, index)
