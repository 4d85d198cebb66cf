"""Products of queries, keys and values, with the many queries last.

Queries are [b, H, K, O], keys [B, H, M, K], logits and weights [B, H, M, O], values [B, H, V, M]
and weighted values [B, H, V, O]: so the queries fill the vectors of a CPU in every product and in
the softmax, however narrow a head is. Normalised tokens of a grid may stand for any of the three.
"""

import functools
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

ATTENDED = "attended"
"""What the gradient of attention needs beside queries, keys and values has this name."""


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
    multiply = functools.partial(
        jnp.einsum, "...ij,...jk->...ik", preferred_element_type=jnp.float32
    )
    if left.dtype == right.dtype == jnp.float32:
        product = multiply(left, right)
    else:
        # XLA for CPUs fails on some products of bfloat16 into float32, and converts in the others.
        product = jax.lax.platform_dependent(
            left,
            right,
            cpu=lambda *sides: multiply(*(side.astype(jnp.float32) for side in sides)),
            default=multiply,
        )
    return product if product.ndim > 2 else product.reshape(*leading, *product.shape)
