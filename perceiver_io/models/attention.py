"""Textbook attention: softmax(scale Q K^T + bias) V (Vaswani et al., 1706.03762).

Shape letters, here and in all attention code: B batch (1 if shared by all examples), O queries,
M inputs, H heads, K head size of queries and keys, V head size of values.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from perceiver_io.models.layers import dropout


def attention(
    queries: Float[Array, "#B O H K"],
    keys: Float[Array, "#B M H K"],
    values: Float[Array, "#B M H V"],
    *,
    bias: Float[Array, "#B #H #O #M"] | None = None,
    key_mask: Bool[Array, "#B M"] | None = None,
    query_mask: Bool[Array, "#B O"] | None = None,
    dropout_rate: float = 0.0,
    rng: PRNGKeyArray | None = None,
    scale: float | None = None,
) -> Float[Array, "B O H V"]:
    """The values averaged with each query's attention weights; softmax in float32.

    `bias` is added to the logits after scaling; `scale` defaults to 1 / sqrt(K). Inputs where
    `key_mask` is False are ignored. The result is zero where `query_mask` is False or where a query
    sees no input. `rng` is the key for dropout of the attention weights; None turns dropout off.
    """
    weights = attention_map(
        queries, keys, bias=bias, key_mask=key_mask, query_mask=query_mask, scale=scale
    )
    weights = dropout(weights, dropout_rate, rng).astype(values.dtype)
    return jnp.einsum("bhom,bmhv->bohv", weights, values)


def attention_map(
    queries: Float[Array, "#B O H K"],
    keys: Float[Array, "#B M H K"],
    *,
    bias: Float[Array, "#B #H #O #M"] | None = None,
    key_mask: Bool[Array, "#B M"] | None = None,
    query_mask: Bool[Array, "#B O"] | None = None,
    scale: float | None = None,
) -> Float[Array, "B H O M"]:
    """Attention weights: each query's sum to 1, or to 0 if it sees no input."""
    scale = queries.shape[-1] ** -0.5 if scale is None else scale
    logits = jnp.einsum("bohk,bmhk->bhom", queries, keys, preferred_element_type=jnp.float32)
    logits = scale * logits if bias is None else scale * logits + bias
    seen = visible(key_mask, query_mask)
    if seen is None:
        return jax.nn.softmax(logits)
    # Finite rather than -inf, so that a fully masked row contains no NaN before it is zeroed.
    return jnp.where(seen, jax.nn.softmax(jnp.where(seen, logits, -1e30)), 0)


def visible(
    key_mask: Bool[Array, "#B M"] | None, query_mask: Bool[Array, "#B O"] | None
) -> Bool[Array, "#B 1 #O #M"] | None:
    """Which query may attend to which input; None if there is no restriction."""
    seen = None if key_mask is None else key_mask[:, None, None, :]
    if query_mask is None:
        return seen
    asked = query_mask[:, None, :, None]
    return asked if seen is None else asked & seen


def split_heads(x: Float[Array, "B N C"], num_heads: int) -> Float[Array, "B N H K"]:
    """Splits the last axis into heads."""
    return x.reshape(*x.shape[:2], num_heads, -1)
