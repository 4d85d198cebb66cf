"""Scaled dot-product attention as pure functions: one entry, `attend`, over interchangeable forms.

Shape letters: B batch (1 where the same for every example), O queries, M inputs, H heads,
K query/key head size, V value head size. Logits and weights are [B, H, M, O], weighted values
[B, H, V, O]: with the many queries last, they fill the vectors of a processor in every product
and in the softmax, however narrow a head is.
"""

import contextlib
import dataclasses
import functools
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from perceiver_io.models.chunks import choose_chunk_size, num_rows, split_rows
from perceiver_io.models.keys_values import Attendable

# Finite, so that a row whose keys are all masked has no NaN on its way to being zeroed.
_MASKED_LOGIT = -1e30

# Of a chunk: what a processor's cache holds, and enough to keep an accelerator busy.
_LOGITS_AT_ONCE = 2**20


@dataclasses.dataclass(frozen=True)
class AttentionForm:
    """How attention is computed; never what is computed.

    key_chunk_size: most keys taken at once, with an online softmax over the chunks;
        None for the plain form, whose logits take O x M numbers per head.
    fold_projections: fold the linear projections of one-head attention into each other where
        that takes fewer FLOPs.
    """

    key_chunk_size: int | None = 1024
    fold_projections: bool = True


_current_form = AttentionForm()


@contextlib.contextmanager
def attention_form(form: AttentionForm) -> Iterator[None]:
    """Traces every attention inside the context in this form."""
    global _current_form
    previous, _current_form = _current_form, form
    try:
        yield
    finally:
        _current_form = previous


def current_form() -> AttentionForm:
    """The form that attention is traced in here."""
    return _current_form


def keys_at_once(source: Any) -> int:
    """How many keys of `source` are taken at once in the current form."""
    most = _current_form.key_chunk_size
    if most is None or num_rows(source) <= most:
        return num_rows(source)
    return choose_chunk_size(source, most)


class Dropout(NamedTuple):
    """Dropout of attention weights: the rate and the key that draws them."""

    rate: float
    rng: PRNGKeyArray


def attend(
    queries: Any,
    source: Any,
    keys_values: Callable[[Any], Attendable],
    *,
    scale: float,
    key_mask: Bool[Array, "#B M"] | None = None,
    query_mask: Bool[Array, "#B O"] | None = None,
    dropout: Dropout | None = None,
) -> Float[Array, "B O H V"]:
    """softmax(scale * Q K^T) V, in the form that is current.

    Args:
        queries: [b, H, K, O], or what the logits of `keys_values` take in their place; a batch of
            1 is shared by every example.
        source: arrays [B, M, ...] that keys and values are made from, one row a key.
        keys_values: makes keys and values of any run of rows of `source`, so that long inputs
            are never projected as a whole.
        scale: factor on the logits.
        key_mask: False for keys that no query sees.
        query_mask: False for queries whose result is zeros.
        dropout: of the attention weights; None for none.

    Returns:
        The weighted values; zeros for a query that is masked or sees no key.
    """
    chunk_size = keys_at_once(source)
    if chunk_size == num_rows(source) and not _takes_turns(queries, source, keys_values):
        result = plain_attention(
            queries, keys_values(source), scale=scale, key_mask=key_mask, dropout=dropout
        )
    else:
        result = chunked_attention(
            queries,
            source,
            keys_values,
            chunk_size=chunk_size,
            scale=scale,
            key_mask=key_mask,
            dropout=dropout,
        )
    if query_mask is not None:
        result = jnp.where(query_mask[:, :, None, None], result, 0)
    return result


def plain_attention(
    queries: Any,
    keys_values: Attendable,
    *,
    scale: float,
    key_mask: Bool[Array, "#B M"] | None = None,
    dropout: Dropout | None = None,
) -> Float[Array, "B O H V"]:
    """The textbook form: all logits at once, softmax in float32."""
    logits = _logits(queries, keys_values, scale, key_mask)
    # Rows of keys: in the other order, XLA for CPUs fuses the products with the softmax, into code
    # that is several times slower and needs memory that it does not tell of.
    weights = jax.nn.softmax(jnp.swapaxes(logits, -1, -2), axis=-1)
    if key_mask is not None:
        weights = jnp.where(key_mask[:, None, None], weights, 0)
    weighted = keys_values.weighted(jnp.swapaxes(_thinned(weights, dropout), -1, -2))
    return jnp.moveaxis(weighted, -1, 1).astype(queries.dtype)


def chunked_attention(
    queries: Any,
    source: Any,
    keys_values: Callable[[Any], Attendable],
    *,
    chunk_size: int,
    scale: float,
    key_mask: Bool[Array, "#B M"] | None = None,
    dropout: Dropout | None = None,
) -> Float[Array, "B O H V"]:
    """The same function in chunks of keys: memory linear in their number, gradient included.

    Keeps a running maximum, denominator and numerator of the softmax (Rabe and Staats,
    arXiv 2112.05682). The gradient recomputes each chunk's logits instead of storing them. Heads
    whose logits are many take turns within a chunk.
    """
    rows = num_rows(source)
    size = choose_chunk_size(source, chunk_size)
    if rows % size and key_mask is None:
        key_mask = jnp.ones((1, rows), bool)
    chunks, restore = split_rows((source, key_mask), size)
    first = jax.eval_shape(lambda: restore(jax.tree.map(lambda x: x[0], chunks)))
    sums = _initial_sums(queries, first, keys_values)
    turns = _num_turns((*sums.maximum.shape, size))

    @jax.checkpoint
    def add_chunk(sums, numbered_chunk):
        index, chunk = numbered_chunk
        part_source, mask = restore(chunk)
        chunk_dropout = dropout and dropout._replace(rng=jax.random.fold_in(dropout.rng, index))
        add = functools.partial(_add_keys, scale=scale, key_mask=mask)
        return _in_turns(turns, add, sums, queries, keys_values(part_source), chunk_dropout), None

    sums, _ = jax.lax.scan(add_chunk, sums, (jnp.arange(-(-rows // size)), chunks))
    denominator = jnp.where(sums.denominator == 0, 1, sums.denominator)
    weighted = sums.numerator / denominator[:, :, None]
    return jnp.moveaxis(weighted, -1, 1).astype(queries.dtype)


class _RunningSums(NamedTuple):
    maximum: Float[Array, "B H O"]
    denominator: Float[Array, "B H O"]
    numerator: Float[Array, "B H V O"]


def _initial_sums(queries, chunk, keys_values) -> _RunningSums:
    def logits_and_sums(queries, chunk):
        source, mask = chunk
        part = keys_values(source)
        logits = _logits(queries, part, 1.0, mask)
        return logits, part.weighted(logits)

    logits, weighted = jax.eval_shape(logits_and_sums, queries, chunk)
    row = (*logits.shape[:2], logits.shape[-1])
    return _RunningSums(
        maximum=jnp.full(row, _MASKED_LOGIT, jnp.float32),
        denominator=jnp.zeros(row, jnp.float32),
        numerator=jnp.zeros(weighted.shape, jnp.float32),
    )


def _add_keys(
    sums: _RunningSums, queries, part: Attendable, dropout: Dropout | None, *, scale, key_mask
) -> _RunningSums:
    logits = _logits(queries, part, scale, key_mask)
    # The result does not depend on the maximum, so no gradient flows through it.
    maximum = jax.lax.stop_gradient(jnp.maximum(sums.maximum, logits.max(axis=-2)))
    weights = jnp.exp(logits - maximum[:, :, None])
    if key_mask is not None:
        weights = jnp.where(key_mask[:, None, :, None], weights, 0)
    decay = jnp.exp(sums.maximum - maximum)
    return _RunningSums(
        maximum=maximum,
        denominator=sums.denominator * decay + weights.sum(axis=-2),
        numerator=sums.numerator * decay[:, :, None] + part.weighted(_thinned(weights, dropout)),
    )


def _num_turns(shape: tuple[int, int, int, int]) -> int:
    """In how many groups, as few as possible, heads are taken whose logits are [B, H, O, M]."""
    heads = shape[1]
    fits = (
        n for n in range(1, heads) if heads % n == 0 and math.prod(shape) <= n * _LOGITS_AT_ONCE
    )
    return next(fits, heads)


def _takes_turns(queries, source, keys_values) -> bool:
    if _current_form.key_chunk_size is None:
        return False
    logits = jax.eval_shape(lambda q, s: keys_values(s).logits(q, 1.0), queries, source)
    return _num_turns(logits.shape) > 1


def _in_turns(
    turns: int, add: Callable, sums: _RunningSums, queries, part, dropout: Dropout | None
) -> _RunningSums:
    """add(sums, queries, part, dropout), for as many groups of heads one after the other.

    As each group's gradient needs its own logits only, they are made again group by group.
    """
    if turns == 1:
        return add(sums, queries, part, dropout)

    def split(x):
        return jnp.moveaxis(x.reshape(len(x), turns, -1, *x.shape[2:]), 1, 0)

    @jax.checkpoint
    def add_group(numbered_group):
        index, group = numbered_group
        own = dropout and dropout._replace(rng=jax.random.fold_in(dropout.rng, index))
        return add(*group, own)

    groups = jax.tree.map(split, (sums, queries, part.heads_first()))
    added = jax.lax.map(add_group, (jnp.arange(turns), groups))
    return jax.tree.map(lambda x, whole: jnp.moveaxis(x, 0, 1).reshape(whole.shape), added, sums)


def _logits(queries, keys_values: Attendable, scale, key_mask) -> Float[Array, "B H M O"]:
    logits = keys_values.logits(queries, scale)
    if key_mask is not None:
        logits = jnp.where(key_mask[:, None, :, None], logits, _MASKED_LOGIT)
    return logits


def _thinned(weights, dropout: Dropout | None) -> Float[Array, "B H M O"]:
    if dropout is None:
        return weights
    keep = 1 - dropout.rate
    kept = jax.random.bernoulli(dropout.rng, keep, weights.shape)
    return jnp.where(kept, weights / keep, 0)
