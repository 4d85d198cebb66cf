"""What queries can attend to: keys and values, and their products.

Shape letters as in `attention.py`. Logits and weights are [B, H, M, O], weighted values
[B, H, V, O]: with the many queries last, they fill the vectors of a processor in every product
and in the softmax, however narrow a head is.
"""

import math
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax.numpy as jnp
from jaxtyping import Array, Float


@runtime_checkable
class Attendable(Protocol):
    """What queries can attend to."""

    def logits(self, queries: Any, scale: float) -> Float[Array, "B H M O"]:
        """Scaled products of keys and queries."""

    def weighted(self, weights: Float[Array, "B H M O"]) -> Float[Array, "B H V O"]:
        """Values times weights."""


class HeadsFirst(NamedTuple):
    """Keys and values of each head, in the layout of their products with queries [b, H, K, O]."""

    keys: Float[Array, "B H M K"]
    values: Float[Array, "B H V M"]

    def logits(self, queries: Float[Array, "b H K O"], scale: float) -> Float[Array, "B H M O"]:
        """Logits of all pairs, scale * K Q."""
        return batched_product(self.keys, queries * scale)

    def weighted(self, weights: Float[Array, "B H M O"]) -> Float[Array, "B H V O"]:
        """Values times weights."""
        return batched_product(self.values, weights.astype(self.values.dtype))


class KeysValues(NamedTuple):
    """Keys and values in rows.

    `key_bias`, of one-head attention only, is added to a key's logit for every query.
    """

    keys: Float[Array, "B M H K"]
    values: Float[Array, "B M H V"]
    key_bias: Float[Array, "B M"] | None = None

    def heads_first(self) -> HeadsFirst:
        """The same with another order of axes, and without the bias."""
        return HeadsFirst(
            jnp.transpose(self.keys, (0, 2, 1, 3)), jnp.transpose(self.values, (0, 2, 3, 1))
        )

    def logits(self, queries: Any, scale: float) -> Float[Array, "B H M O"]:
        """Logits of all pairs, scale * (K Q + key_bias)."""
        logits = self.products(queries, scale)
        if self.key_bias is None:
            return logits
        return logits + scale * self.key_bias[:, None, :, None].astype(jnp.float32)

    def products(self, queries: Float[Array, "b H K O"], scale: float) -> Float[Array, "B H M O"]:
        """Logits without the bias."""
        return self.heads_first().logits(queries, scale)

    def weighted(self, weights: Float[Array, "B H M O"]) -> Float[Array, "B H V O"]:
        """Values times weights."""
        return self.heads_first().weighted(weights)


def batched_product(
    left: Float[Array, "... I J"], right: Float[Array, "... J K"]
) -> Float[Array, "... I K"]:
    """Products of the last two axes, over leading axes that are the same or 1, in float32.

    A batch of one goes without its axes: on CPUs XLA copies the transposed matrices of a batched
    product, which the gradient is full of, but not those of a single one.
    """
    leading = left.shape[:-2]
    if math.prod(leading) == math.prod(right.shape[:-2]) == 1:
        left, right = (x.reshape(x.shape[-2:]) for x in (left, right))
    product = jnp.einsum("...ij,...jk->...ik", left, right, preferred_element_type=jnp.float32)
    return product if product.ndim > 2 else product.reshape(*leading, *product.shape)
