"""Output adapters against NumPy."""

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np

from perceiver_io.models.outputs import AveragePooledLogits, ClassLogits, PositionProjection
from tests import oracles


def run(function, x):
    """(parameters for NumPy, result) of a Haiku function."""
    transformed = hk.without_apply_rng(hk.transform(function))
    params = oracles.random_params(transformed.init, x)
    return oracles.as_float64(params), transformed.apply(params, x)


X = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3, 4)), jnp.float32)


def test_position_projection():
    def function(x):
        adapter = PositionProjection(5)
        return adapter.arrange(adapter.project(x))

    params, result = run(function, X)
    oracles.assert_close(result, oracles.linear(np.asarray(X), params["output"]))


def test_projection_that_starts_from_zero():
    adapter = PositionProjection(5, init_scale=0.0)
    params = hk.transform(adapter.project).init(jax.random.key(0), X)
    assert not params["output"]["w"].any() and not params["output"]["b"].any()


def test_class_logits_of_the_single_query():
    def function(x):
        adapter = ClassLogits(5)
        return adapter.arrange(adapter.project(x))

    params, result = run(function, X[:, :1])
    assert result.shape == (2, 5)
    oracles.assert_close(result, oracles.linear(np.asarray(X[:, 0]), params["logits"]))


def test_average_pooled_logits():
    params, result = run(AveragePooledLogits(5), X)
    oracles.assert_close(result, oracles.linear(np.asarray(X).mean(1), params["logits"]))
