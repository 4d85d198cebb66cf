"""Attention on accelerators: all logits at once, with as little memory traffic as possible.

Attention is limited by memory bandwidth there. The softmax takes two passes over the logits, one
for their log-sum-exp and one for the weights; the backward pass recomputes the weights from the
log-sum-exp (Dao et al., 2205.14135) and multiplies in the dtype of the inputs. Kernels that never
write the logits to memory are in `kernels.py`.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from perceiver_io.models.attention import visible
from perceiver_io.models.fast.products import ATTENDED
from perceiver_io.models.layers import dropout

# 4 GiB in float32, counted over all devices if the batch is sharded.
_LOGITS_AT_ONCE = 2**30

# Finite rather than -inf, so that a fully masked row contains no NaN before it is zeroed.
_MASKED_LOGIT = -1e30


class Arrays(NamedTuple):
    """The arrays that attention takes; shapes and meaning are as in `attention.attention`."""

    queries: Float[Array, "#B O H K"]
    keys: Float[Array, "#B M H K"]
    values: Float[Array, "#B M H V"]
    bias: Float[Array, "#B #H #O #M"] | None


def whole_attention(
    arrays: Arrays,
    *,
    key_mask: Bool[Array, "#B M"] | None,
    scale: float,
    dropout_rate: float,
    rng: PRNGKeyArray | None,
) -> Float[Array, "B O H V"]:
    """As `attention.attention`; processes queries in chunks if there are too many logits."""
    width = arrays.values.shape[-1]
    queries, keys, values = (aligned(x) for x in arrays[:3])
    queries, keys, _, bias = arrays = Arrays(queries * scale, keys, values, arrays.bias)
    _, num_queries, heads, _ = queries.shape
    # Examples that share queries and keys may still have different masks.
    batch = max(len(x) for x in (queries, keys, bias, key_mask) if x is not None)
    turns = min(-(-batch * heads * num_queries * keys.shape[1] // _LOGITS_AT_ONCE), num_queries)
    seen = visible(key_mask, None)
    if turns == 1:
        return _attention(dropout_rate, arrays, seen, rng)[..., :width]

    def split(x, axis):
        if x.shape[axis] == 1:
            return jnp.broadcast_to(x, (turns, *x.shape))
        missing = [(0, -x.shape[i] % turns if i == axis else 0) for i in range(x.ndim)]
        return jnp.stack(jnp.split(jnp.pad(x, missing), turns, axis))

    def attend(part):
        index, queries, bias = part
        own_rng = None if rng is None else jax.random.fold_in(rng, index)
        return _attention(dropout_rate, arrays._replace(queries=queries, bias=bias), seen, own_rng)

    biases = jax.tree.map(lambda x: split(x, 2), bias)
    attended = jax.lax.map(attend, (jnp.arange(turns), split(queries, 1), biases))
    attended = jnp.moveaxis(attended, 0, 1)
    return attended.reshape(batch, -1, *attended.shape[3:])[:, :num_queries, :, :width]


def aligned(x: Float[Array, "... K"], least: int = 0) -> Float[Array, "... P"]:
    """Fills up the last axis with zeros to a multiple of 8, and to `least` numbers or more.

    Tensor cores multiply rows of half precision at full speed only if they are whole units of 16
    bytes.
    """
    size = -(-max(x.shape[-1], least) // 8) * 8
    return jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, size - x.shape[-1])])


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _attention(dropout_rate, arrays, seen, rng) -> Float[Array, "B O H V"]:
    return _forward(dropout_rate, arrays, seen, rng)[0]


def _forward(dropout_rate, arrays, seen, rng):
    logits = _logits(arrays, seen)
    log_sum = _log_sum_exp(logits)
    weights = dropout(_weights(logits, log_sum, seen), dropout_rate, rng)
    values = arrays.values
    attended = jnp.einsum("bhom,bmhv->bohv", weights.astype(values.dtype), values)
    kept = checkpoint_name((attended, log_sum), ATTENDED)
    return kept[0], (arrays, seen, rng, *kept)


def _backward(dropout_rate, residuals, cotangent):
    arrays, seen, rng, attended, log_sum = residuals
    queries, keys, values, bias = arrays
    weights = _weights(_logits(arrays, seen), log_sum, seen)
    thinned, thin = jax.vjp(lambda x: dropout(x, dropout_rate, rng), weights)
    # The softmax's gradient: the part common to all weights of a query, which sum to one.
    common = jnp.einsum("bohv,bohv->bho", cotangent, attended, preferred_element_type=jnp.float32)
    (of_weights,) = thin(
        jnp.einsum("bohv,bmhv->bhom", cotangent, values, preferred_element_type=jnp.float32)
    )
    of_logits = weights * (of_weights - common[..., None])
    rounded = of_logits.astype(queries.dtype)
    return (
        Arrays(
            _contract("bhom,bmhk->bohk", rounded, keys, queries),
            _contract("bhom,bohk->bmhk", rounded, queries, keys),
            _contract("bhom,bohv->bmhv", thinned.astype(values.dtype), cotangent, values),
            None if bias is None else _summed(of_logits, bias),
        ),
        None,
        None,
    )


_attention.defvjp(_forward, _backward)


def _logits(arrays, seen) -> Float[Array, "B H O M"]:
    queries, keys, _, bias = arrays
    logits = jnp.einsum("bohk,bmhk->bhom", queries, keys, preferred_element_type=jnp.float32)
    logits = logits if bias is None else logits + bias
    return logits if seen is None else jnp.where(seen, logits, _MASKED_LOGIT)


def _weights(logits, log_sum, seen) -> Float[Array, "B H O M"]:
    weights = jnp.exp(logits - log_sum[..., None])
    return weights if seen is None else jnp.where(seen, weights, 0)


def _log_sum_exp(logits: Float[Array, "B H O M"]) -> Float[Array, "B H O"]:
    """Log-sum-exp in a single pass, reducing the running maximum and the sum together."""

    def add(one, other):
        (maximum, total), (other_maximum, other_total) = one, other
        larger = jnp.maximum(maximum, other_maximum)
        return larger, (
            total * jnp.exp(maximum - larger) + other_total * jnp.exp(other_maximum - larger)
        )

    # Computed from the logits: XLA would read a constant array of ones from memory.
    once = (logits >= _MASKED_LOGIT).astype(jnp.float32)
    start = (jnp.float32(2 * _MASKED_LOGIT), jnp.float32(0))
    maximum, total = jax.lax.reduce((logits, once), start, add, (3,))
    return maximum + jnp.log(total)


def _contract(subscripts: str, left: Array, right: Array, like: Array) -> Array:
    """The product in shape and dtype of `like`; summed over the batch if `like` is unbatched."""
    if len(like) == 1 < max(len(left), len(right)):
        subscripts = subscripts.replace("->b", "->")
    return jnp.einsum(subscripts, left, right).reshape(like.shape).astype(like.dtype)


def _summed(x: Array, like: Array) -> Array:
    """Sums `x` over the axes along which `like` was broadcast."""
    axes = [axis for axis in range(x.ndim) if like.shape[axis] == 1 < x.shape[axis]]
    return x.sum(axes, keepdims=True).astype(like.dtype)
