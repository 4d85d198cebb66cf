"""Multi-head attention on CPUs: all at once if small, else by chunks of keys and head groups."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from perceiver_io.models import sequence
from perceiver_io.models.fast.chunks import choose_chunk_size
from perceiver_io.models.fast.online import (
    MASKED_LOGIT,
    Inputs,
    KeyMaps,
    KeysValues,
    Online,
    online_attention,
)
from perceiver_io.models.fast.products import batched_product
from perceiver_io.models.layers import dropout

# About what fits into a CPU's cache.
_LOGITS_AT_ONCE = 2**20


def attention_by_heads(
    queries: Float[Array, "#B O H K"],
    keys: Float[Array, "#B M H K"],
    values: Float[Array, "#B M H V"],
    *,
    bias: Float[Array, "#B #H #O #M"] | None,
    key_mask: Bool[Array, "#B M"] | None,
    dropout_rate: float,
    rng: PRNGKeyArray | None,
    scale: float,
    chunk_size: int,
    split: bool,
) -> Float[Array, "B O H V"]:
    """As `attention.attention`, in chunks of keys; in groups of heads if there are many logits.

    With `split`, keys and values are split over devices.
    """
    own_keys = sequence.of_one_device(keys) if split else keys
    size = choose_chunk_size(own_keys, min(chunk_size, own_keys.shape[1]))
    batch = max(len(queries), len(keys))
    turns = _num_turns(batch * queries.shape[1] * size, keys.shape[2])
    queries = jnp.transpose(queries, (0, 2, 3, 1))
    if turns == 1 and size == keys.shape[1]:
        weighted = _at_once(queries * scale, keys, values, bias, key_mask, dropout_rate, rng)
    else:
        form = Online(size, scale, dropout_rate, rows="as_is", split=split)
        bias = None if bias is None else jnp.transpose(bias, (0, 3, 1, 2))
        inputs = Inputs(KeysValues(keys, values), bias, key_mask)
        weighted = _in_turns(form, turns, queries, inputs, rng)
    return jnp.moveaxis(weighted, -1, 1).astype(queries.dtype)


def _num_turns(logits_per_head: int, heads: int) -> int:
    """The smallest number of head groups whose logits fit into the cache."""
    fits = (
        turns
        for turns in range(1, heads)
        if heads % turns == 0 and logits_per_head * heads <= turns * _LOGITS_AT_ONCE
    )
    return next(fits, heads)


def _at_once(queries, keys, values, bias, key_mask, dropout_rate, rng) -> Float[Array, "B H V O"]:
    """Attention with all logits at once; `queries` are already scaled."""
    # Keys come first in this product: in the other order, XLA fuses it with the softmax on CPUs,
    # which is several times slower and uses memory that its analysis does not report.
    logits = jnp.swapaxes(batched_product(jnp.transpose(keys, (0, 2, 1, 3)), queries), -1, -2)
    if bias is not None:
        logits = logits + bias
    if key_mask is None:
        weights = jax.nn.softmax(logits)
    else:
        seen = key_mask[:, None, None]
        weights = jnp.where(seen, jax.nn.softmax(jnp.where(seen, logits, MASKED_LOGIT)), 0)
    weights = jnp.swapaxes(dropout(weights, dropout_rate, rng), -1, -2).astype(values.dtype)
    return batched_product(jnp.transpose(values, (0, 2, 3, 1)), weights)


def _in_turns(
    form: Online, turns: int, queries: Array, inputs: Inputs, rng: PRNGKeyArray | None
) -> Float[Array, "B H V O"]:
    """Attention of one head group after the other, each in chunks of keys."""
    no_maps = KeyMaps((), (), None)
    if turns == 1:
        return online_attention(form, queries, no_maps, inputs, rng)

    def split(x, axis):
        if x.shape[axis] == 1:
            return jnp.broadcast_to(x, (turns, *x.shape))
        return jnp.stack(jnp.split(x, turns, axis))

    def attend(group):
        index, queries, source, bias = group
        own_rng = None if rng is None else jax.random.fold_in(rng, index)
        group_inputs = inputs._replace(source=source, bias=bias)
        return online_attention(form, queries, no_maps, group_inputs, own_rng)

    groups = (
        jnp.arange(turns),
        split(queries, 1),
        jax.tree.map(lambda x: split(x, 2), inputs.source),
        jax.tree.map(lambda x: split(x, 2), inputs.bias),
    )
    weighted = jnp.moveaxis(jax.lax.map(attend, groups), 0, 1)
    return weighted.reshape(weighted.shape[0], -1, *weighted.shape[3:])
