"""Depthwise convolutions: the CPU's form against the operation, values and gradients."""

import functools

import jax.numpy as jnp
import pytest

from perceiver_io.models.fast.depthwise import grouped_conv, shifted_products
from tests.helpers import oracles
from tests.helpers.oracles import normal


@pytest.mark.parametrize("stride", [1, 2])
def test_forms_agree(stride):
    arguments = normal(2, 5, 6, 3), normal(3, 3, 1, 3, seed=1)
    expected, found = (
        oracles.values_and_gradients(functools.partial(form, stride=stride), *arguments)
        for form in (grouped_conv, shifted_products)
    )
    assert found[0].shape == (2, -(-5 // stride), 6 // stride, 3)
    oracles.assert_close(found, expected)


def test_half_precision_is_added_up_in_float32():
    x, weight = (array.astype(jnp.bfloat16) for array in (normal(1, 5, 6, 3), normal(3, 3, 1, 3)))
    found = shifted_products(x, weight, 1)
    assert found.dtype == jnp.bfloat16
    exact = grouped_conv(x.astype(jnp.float32), weight.astype(jnp.float32), 1)
    oracles.assert_close(found, exact.astype(jnp.bfloat16), 0.008)
