"""Products with a weight at each place, with a gradient that CPUs compute faster."""

import jax
from jaxtyping import Array, Float


@jax.custom_vjp
def pointwise_product(x: Float[Array, "*B C"], weight: Float[Array, "C D"]) -> Float[Array, "*B D"]:
    """The product x @ weight.

    JAX computes the gradient of the weight transposed. On CPUs, XLA then repeats all element-wise
    operations behind the result's gradient, such as those of batch norm, in transposed order, which
    takes longer than all products. Here, the gradient is the product of `x` and the result's
    gradient as they are.
    """
    return x @ weight


def _forward(x, weight):
    return x @ weight, (x, weight)


def _backward(residuals, cotangent):
    x, weight = residuals
    rows, columns = (array.reshape(-1, array.shape[-1]) for array in (x, cotangent))
    # Not rows.T @ columns, which transposes.
    of_weight = jax.lax.dot_general(rows, columns, (((0,), (0,)), ((), ())))
    return cotangent @ weight.T, of_weight


pointwise_product.defvjp(_forward, _backward)
