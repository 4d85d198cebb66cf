"""Matrix products of attention in a layout with the query axis last.

Queries are [b, H, K, O], keys [B, H, M, K], logits and weights [B, H, M, O], values [B, H, V, M]
and weighted values [B, H, V, O]. In this layout a CPU's vector units run along the queries in every
product and in the softmax, however small the heads are. Factorised tokens of a grid (`GridRows`)
may replace queries, keys or values.
"""

import functools
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

ATTENDED = "attended"
"""Checkpoint name of what attention's backward pass needs besides queries, keys and values."""


def batched_product(
    left: Float[Array, "... I J"], right: Float[Array, "... J K"]
) -> Float[Array, "... I K"]:
    """Matrix products of the last two axes in float32; leading axes are equal or 1.

    A batch of one drops its leading axes: on CPUs, XLA copies transposed operands of a batched
    product, which are frequent in the backward pass, but not those of a single product.
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
        # On CPUs, XLA fails on some bfloat16 products with float32 results, and converts the
        # operands of the others anyway.
        product = jax.lax.platform_dependent(
            left,
            right,
            cpu=lambda *sides: multiply(*(side.astype(jnp.float32) for side in sides)),
            default=multiply,
        )
    return product if product.ndim > 2 else product.reshape(*leading, *product.shape)
