"""Attention as in the textbook: softmax(scale Q K^T + bias) V (Vaswani et al., 1706.03762).

Shape letters, here and wherever models attend: B batch (1 where the same for every example),
O queries, M inputs, H heads, K head size of queries and keys, V of values.
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
    """The values of what each query attends to, weighted by how much; softmax in float32.

    `bias` is added to the logits, whose `scale` is 1 / sqrt(K) unless it is given. Inputs are not
    seen where `key_mask` is False. The result is zeros where `query_mask` is False or nothing is
    seen. `rng` draws the dropout of the weights; None for none.
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
    """How much each query attends to each input: rows sum to 1, or to 0 where nothing is seen."""
    scale = queries.shape[-1] ** -0.5 if scale is None else scale
    logits = jnp.einsum("bohk,bmhk->bhom", queries, keys, preferred_element_type=jnp.float32)
    logits = scale * logits if bias is None else scale * logits + bias
    seen = visible(key_mask, query_mask)
    if seen is None:
        return jax.nn.softmax(logits)
    # Finite, so that a row in which nothing is seen has no NaN on its way to being zeroed.
    return jnp.where(seen, jax.nn.softmax(jnp.where(seen, logits, -1e30)), 0)


def visible(
    key_mask: Bool[Array, "#B M"] | None, query_mask: Bool[Array, "#B O"] | None
) -> Bool[Array, "#B 1 #O #M"] | None:
    """Which query sees which input; None if all see all."""
    seen = None if key_mask is None else key_mask[:, None, None, :]
    if query_mask is None:
        return seen
    asked = query_mask[:, None, :, None]
    return asked if seen is None else asked & seen


def split_heads(x: Float[Array, "B N C"], num_heads: int) -> Float[Array, "B N H K"]:
    """The columns of each head."""
    return x.reshape(*x.shape[:2], num_heads, -1)
