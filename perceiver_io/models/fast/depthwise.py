"""Depthwise convolutions: one operation on accelerators, a sum of shifted products on CPUs."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def grouped_conv(
    x: Float[Array, "B H W C"], weight: Float[Array, "3 3 1 C"], stride: int
) -> Float[Array, "B h w C"]:
    """A depthwise 3x3 convolution with symmetric padding: size H / stride, rounded up."""
    return jax.lax.conv_general_dilated(
        x, weight, (stride, stride), ((1, 1), (1, 1)), feature_group_count=x.shape[-1],
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )  # fmt: skip


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def shifted_products(
    x: Float[Array, "B H W C"], weight: Float[Array, "3 3 1 C"], stride: int
) -> Float[Array, "B h w C"]:
    """The same, added up in float32; on CPUs, XLA takes twenty times as long for the operation.

    The backward pass shifts again, rather than keep nine copies of `x`.
    """
    total = sum(shifted * weight[i, j, 0] for (i, j), shifted in _shifted(x, stride).items())
    return total.astype(x.dtype)


def _forward(x, weight, stride):
    return shifted_products(x, weight, stride), (x, weight)


def _backward(stride, residuals, cotangent):
    x, weight = residuals
    # With zeros where the stride has skipped places.
    spread = [
        (0, side - 1 - stride * (kept - 1), stride - 1)
        for side, kept in zip(x.shape[1:3], cotangent.shape[1:3], strict=True)
    ]
    whole = jax.lax.pad(cotangent, jnp.zeros((), x.dtype), [(0, 0, 0), *spread, (0, 0, 0)])
    of_x = shifted_products(whole, weight[::-1, ::-1], 1)
    sums = [(shifted * cotangent).sum((0, 1, 2)) for shifted in _shifted(x, stride).values()]
    return of_x, jnp.stack(sums).reshape(weight.shape).astype(weight.dtype)


shifted_products.defvjp(_forward, _backward)


def _shifted(
    x: Float[Array, "B H W C"], stride: int
) -> dict[tuple[int, int], Float[Array, "B h w C"]]:
    """The places that each entry of a kernel multiplies, in float32, zero beyond the edges."""
    height, width = x.shape[1:3]
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))).astype(jnp.float32)
    return {
        (i, j): padded[:, i : i + height : stride, j : j + width : stride]
        for i in range(3)
        for j in range(3)
    }
