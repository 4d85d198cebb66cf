"""Output adapters against NumPy."""

import haiku as hk
import jax
import numpy as np

from perceiver_io.models.outputs import AveragePooledLogits, ClassLogits, PositionProjection
from tests import oracles


def run(function, x):
    transformed = hk.without_apply_rng(hk.transform(function))
    params = transformed.init(jax.random.key(0), x)
    return params, transformed.apply(oracles.randomised(params), x)


X = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)


def test_position_projection():
    def function(x):
        adapter = PositionProjection(5)
        return adapter.arrange(adapter.project(x))

    params, result = run(function, X)
    oracles.assert_close(result, oracles.linear(X, oracles.randomised(params)["output"]))


def test_projection_that_starts_from_zero():
    params, _ = run(PositionProjection(5, init_scale=0.0).project, X)
    assert not params["output"]["w"].any() and not params["output"]["b"].any()


def test_class_logits_of_the_single_query():
    def function(x):
        adapter = ClassLogits(5)
        return adapter.arrange(adapter.project(x))

    params, result = run(function, X[:, :1])
    assert result.shape == (2, 5)
    oracles.assert_close(result, oracles.linear(X[:, 0], oracles.randomised(params)["logits"]))


def test_average_pooled_logits():
    params, result = run(AveragePooledLogits(5), X)
    oracles.assert_close(result, oracles.linear(X.mean(1), oracles.randomised(params)["logits"]))
