"""Scaled dot-product attention as pure functions: one entry, `attend`, over interchangeable forms.

Shape letters: B batch (1 where the same for every example), O queries, M inputs, H heads,
K query/key head size, V value head size.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from perceiver_io.models.chunks import choose_chunk_size, num_rows, split_rows

# Finite, so that a row whose keys are all masked has no NaN on its way to being zeroed.
_MASKED_LOGIT = -1e30


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


@runtime_checkable
class Attendable(Protocol):
    """What queries can attend to."""

    def logits(self, queries: Any, scale: float) -> Float[Array, "B H O M"]:
        """Scaled products of queries and keys."""

    def weighted(self, weights: Float[Array, "B H O M"]) -> Float[Array, "B O H V"]:
        """Weights times values."""


class KeysValues(NamedTuple):
    """Keys and values as arrays. `key_bias` is added to a key's logit for every query."""

    keys: Float[Array, "B M H K"]
    values: Float[Array, "B M H V"]
    key_bias: Float[Array, "B M"] | None = None

    def logits(self, queries: Any, scale: float) -> Float[Array, "B H O M"]:
        """Logits of all pairs, scale * (Q K^T + key_bias)."""
        logits = self.products(queries, scale)
        if self.key_bias is None:
            return logits
        return logits + scale * self.key_bias[:, None, None, :].astype(jnp.float32)

    def products(self, queries: Float[Array, "b O H K"], scale: float) -> Float[Array, "B H O M"]:
        """Logits without the bias."""
        return jnp.einsum(
            "bqhk,bmhk->bhqm", queries * scale, self.keys, preferred_element_type=jnp.float32
        )

    def weighted(self, weights: Float[Array, "B H O M"]) -> Float[Array, "B O H V"]:
        """Weights times values."""
        return jnp.einsum(
            "bhqm,bmhv->bqhv",
            weights.astype(self.values.dtype),
            self.values,
            preferred_element_type=jnp.float32,
        )


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
        queries: [b, O, H, K], or what the logits of `keys_values` take in their place; a batch of
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
    if chunk_size == num_rows(source):
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
    weights = jax.nn.softmax(logits, axis=-1)
    if key_mask is not None:
        weights = jnp.where(key_mask[:, None, None, :], weights, 0)
    return keys_values.weighted(_thinned(weights, dropout)).astype(queries.dtype)


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
    arXiv 2112.05682). The gradient recomputes each chunk's logits instead of storing them.
    """
    rows = num_rows(source)
    size = choose_chunk_size(source, chunk_size)
    if rows % size and key_mask is None:
        key_mask = jnp.ones((1, rows), bool)
    chunks, restore = split_rows((source, key_mask), size)

    @jax.checkpoint
    def add_chunk(sums, numbered_chunk):
        index, chunk = numbered_chunk
        part_source, mask = restore(chunk)
        part = keys_values(part_source)
        logits = _logits(queries, part, scale, mask)
        maximum = jnp.maximum(sums.maximum, jax.lax.stop_gradient(logits.max(axis=-1)))
        weights = jnp.exp(logits - maximum[..., None])
        if mask is not None:
            weights = jnp.where(mask[:, None, None, :], weights, 0)
        # The result does not depend on the maximum, so no gradient flows through it.
        decay = jnp.exp(sums.maximum - maximum)
        chunk_dropout = dropout and dropout._replace(rng=jax.random.fold_in(dropout.rng, index))
        weighted = part.weighted(_thinned(weights, chunk_dropout))
        numerator = sums.numerator * jnp.moveaxis(decay, 1, 2)[..., None] + weighted
        denominator = sums.denominator * decay + weights.sum(axis=-1)
        return _RunningSums(maximum, denominator, numerator), None

    first = jax.eval_shape(lambda: restore(jax.tree.map(lambda x: x[0], chunks)))
    sums = _initial_sums(queries, first, keys_values)
    sums, _ = jax.lax.scan(add_chunk, sums, (jnp.arange(-(-rows // size)), chunks))
    denominator = jnp.where(sums.denominator == 0, 1, sums.denominator)
    return (sums.numerator / jnp.moveaxis(denominator, 1, 2)[..., None]).astype(queries.dtype)


class _RunningSums(NamedTuple):
    maximum: Float[Array, "B H O"]
    denominator: Float[Array, "B H O"]
    numerator: Float[Array, "B O H V"]


def _initial_sums(queries, chunk, keys_values) -> _RunningSums:
    def logits_and_sums(queries, chunk):
        source, mask = chunk
        part = keys_values(source)
        logits = _logits(queries, part, 1.0, mask)
        return logits, part.weighted(logits)

    logits, weighted = jax.eval_shape(logits_and_sums, queries, chunk)
    row = logits.shape[:-1]
    return _RunningSums(
        maximum=jnp.full(row, _MASKED_LOGIT, jnp.float32),
        denominator=jnp.zeros(row, jnp.float32),
        numerator=jnp.zeros(weighted.shape, jnp.float32),
    )


def _logits(queries, keys_values: Attendable, scale, key_mask) -> Float[Array, "B H O M"]:
    logits = keys_values.logits(queries, scale)
    if key_mask is not None:
        logits = jnp.where(key_mask[:, None, None, :], logits, _MASKED_LOGIT)
    return logits


def _thinned(weights, dropout: Dropout | None) -> Float[Array, "B H O M"]:
    if dropout is None:
        return weights
    keep = 1 - dropout.rate
    kept = jax.random.bernoulli(dropout.rng, keep, weights.shape)
    return jnp.where(kept, weights / keep, 0)
