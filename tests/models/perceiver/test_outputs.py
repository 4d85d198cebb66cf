"""Output adapters against NumPy."""

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np

from perceiver_io.models.layers import linear
from perceiver_io.models.perceiver.outputs import (
    AveragePooledLogits,
    ClassLogits,
    FlowField,
    PositionProjection,
    SharedProjection,
    TanhHead,
    TaskHeads,
    TiedLogits,
)
from tests.helpers import oracles


def run(function, x):
    """(parameters for NumPy, result) of a Haiku function."""
    transformed = hk.without_apply_rng(hk.transform(function))
    params = oracles.random_params(transformed.init, x)
    return oracles.as_float64(params), transformed.apply(params, x)


def applied(adapter, x):
    for weights in adapter.layers(x.shape[-1]):
        x = linear(weights, x)
    return x


X = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3, 4)), jnp.float32)


def test_position_projection():
    def function(x):
        adapter = PositionProjection(5)
        return adapter.arrange(applied(adapter, x))

    params, result = run(function, X)
    oracles.assert_close(result, oracles.linear(np.asarray(X), params["output"]))


def test_projection_that_starts_from_zero():
    adapter = PositionProjection(5, init_scale=0.0)
    params = hk.transform(adapter.layers).init(jax.random.key(0), 4)
    assert not params["output"]["w"].any() and not params["output"]["b"].any()


def test_class_logits_of_the_single_query():
    def function(x):
        adapter = ClassLogits(5)
        return adapter.arrange(applied(adapter, x))

    params, result = run(function, X[:, :1])
    assert result.shape == (2, 5)
    oracles.assert_close(result, oracles.linear(np.asarray(X[:, 0]), params["logits"]))


def test_average_pooled_logits():
    params, result = run(AveragePooledLogits(5), X)
    oracles.assert_close(result, oracles.linear(np.asarray(X).mean(1), params["logits"]))


def test_shared_projection_has_a_shared_and_a_separate_layer():
    class Decoder(hk.Module):
        def __call__(self, adapter, x):
            return adapter.arrange(applied(adapter, x))

    def function(x):
        shared, decode = PositionProjection(5), Decoder("decoder")
        own = [PositionProjection(width, name=f"own_{width}") for width in (2, 3)]
        return [decode(SharedProjection(shared, adapter), x) for adapter in own]

    params, results = run(function, X)
    assert set(params) == {"decoder/output", "decoder/own_2", "decoder/own_3"}
    for width, result in zip((2, 3), results, strict=True):
        hidden = oracles.linear(np.asarray(X), params["decoder/output"])
        oracles.assert_close(result, oracles.linear(hidden, params[f"decoder/own_{width}"]))


def test_tied_logits_are_products_with_the_embeddings():
    table = np.random.default_rng(1).normal(size=(7, 4)).astype(np.float32)
    params, result = run(lambda x: applied(TiedLogits(lambda: jnp.asarray(table)), x), X)
    oracles.assert_close(result, np.asarray(X) @ table.T + params["logits"]["b"])


def test_flow_field_is_scaled_and_in_the_images_shape():
    flow = FlowField((2, 3)).arrange(jnp.arange(12.0).reshape(1, 6, 2))
    np.testing.assert_allclose(flow, 0.2 * np.arange(12.0).reshape(1, 2, 3, 2), rtol=1e-6)
    params = hk.transform(FlowField((2, 3)).layers).init(jax.random.key(0), 4)
    assert not params["output"]["w"].any()


def test_tanh_head():
    def function(x):
        head = TanhHead(num_outputs=5, hidden_dim=7)
        return head.arrange(applied(head, x))

    params, result = run(function, X[:, :1])
    hidden = np.tanh(oracles.linear(np.asarray(X[:, 0]), params["head"]))
    oracles.assert_close(result, oracles.linear(hidden, params["logits"]))


def test_heads_of_tasks():
    """One query serves all heads; of three, each serves its own."""

    def function(x):
        heads = TaskHeads(num_tasks=3, num_outputs=2, hidden_dim=5)
        return heads.arrange(applied(heads, x))

    for x in (X[:, :1], X):
        params, result = run(function, x)
        hidden = np.tanh(oracles.linear(np.asarray(x), params["heads/hidden"]))
        w, b = params["heads"]["w"].reshape(5, 3, 2), params["heads"]["b"]
        for task in range(3):
            own = hidden[:, min(task, x.shape[1] - 1), 5 * task : 5 * task + 5]
            oracles.assert_close(result[:, task], own @ w[:, task] + b[task])
