"""Products with a weight at each place: the gradient, and that it is not computed transposed."""

import jax
import jax.numpy as jnp
import numpy as np

from perceiver_io.models.fast import pointwise_product
from tests.helpers import oracles
from tests.helpers.oracles import normal


def test_value_and_gradients():
    x, weight = normal(2, 3, 5, 4), normal(4, 6)
    found = oracles.values_and_gradients(pointwise_product, x, weight)
    expected = oracles.values_and_gradients(jnp.matmul, x, weight)
    oracles.assert_close(found, expected)


def test_nothing_is_transposed_for_the_gradient_of_the_weight():
    x, weight = normal(2, 8, 8, 4), normal(4, 6)

    def loss(weight):
        return jnp.square(jnp.tanh(pointwise_product(x, weight))).sum()

    program = jax.jit(jax.grad(loss)).lower(weight).as_text()
    assert "stablehlo.transpose" not in program
    assert np.isfinite(jax.jit(jax.grad(loss))(weight)).all()
