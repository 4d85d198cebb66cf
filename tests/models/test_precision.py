"""Models computed in bfloat16."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_io.models.architectures import ARCHITECTURES, build, in_textbook_form
from tests.helpers import oracles
from tests.helpers.architectures import initialised, small


def dtypes(tree):
    return {str(x.dtype) for x in jax.tree.leaves(tree)}


@pytest.mark.slow
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_bfloat16(name):
    """Computed in bfloat16 throughout on accelerators; parameters, state and results in float32."""
    section, inputs = small(name)
    model, params, state = initialised(section | dict(compute_dtype="bfloat16"), inputs)
    assert dtypes(params) == {"float32"} and dtypes(state) <= {"float32", "int32"}

    def train(params, state, inputs, model=model):
        return model.apply(params, state, None, inputs=inputs, is_training=True)

    arguments = params, state, jax.tree.map(jnp.asarray, inputs)
    compiled = jax.jit(train)
    program = compiled.trace(*arguments).lower(lowering_platforms=("cuda",)).as_text()
    products = re.findall(r"stablehlo\.(?:dot_general|convolution).* : \((.*)\) ->", program)
    operands = {x.rpartition("x")[2] for x in re.findall(r"tensor<(\S+)>", " ".join(products))}
    assert len(products) > 2 and operands == {"bf16"}

    low, new_state = compiled(*arguments)
    textbook = build(in_textbook_form(section))
    exact, exact_state = jax.jit(lambda *x: train(*x, model=textbook))(*arguments)
    assert dtypes(low) == {"float32"}
    assert jax.tree.map(jnp.dtype, new_state) == jax.tree.map(jnp.dtype, exact_state)
    oracles.assert_close(low, exact, 0.1)
    for x, y in zip(jax.tree.leaves(low), jax.tree.leaves(exact), strict=True):
        assert np.corrcoef(np.ravel(x), np.ravel(y))[0, 1] > 0.99
    # The statistics of a layer see the rounding of all layers before it.
    oracles.assert_close(new_state, exact_state, 0.05)


@pytest.mark.slow
@pytest.mark.usefixtures("for_cpu")
@pytest.mark.parametrize("name", ["perceiver_io_masked_lm", "perceiver_io_flow_conv"])
def test_gradients_in_bfloat16(name):
    section, inputs = small(name)

    def gradients(**precision):
        model, params, state = initialised(section | precision, inputs)

        def loss(params):
            outputs, _ = model.apply(params, state, None, inputs=inputs, is_training=True)
            return sum(jnp.square(x).mean() for x in jax.tree.leaves(outputs))

        tree = jax.jit(jax.grad(loss))(params)
        assert dtypes(tree) == {"float32"}
        return np.concatenate([np.ravel(x) for x in jax.tree.leaves(tree)])

    low, exact = gradients(compute_dtype="bfloat16"), gradients()
    assert low @ exact > 0.98 * np.linalg.norm(low) * np.linalg.norm(exact)
