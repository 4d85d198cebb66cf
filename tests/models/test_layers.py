"""Layers against NumPy, and their randomness."""

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_io.errors import UserError
from perceiver_io.models import layers
from perceiver_io.models.perceiver.text import embed
from perceiver_io.models.settings import SelfAttendSettings
from perceiver_io.models.weights import LayerNorm, Linear, get_attention, get_linear, get_mlp
from tests.helpers import oracles
from tests.helpers.oracles import normal


def test_linear():
    weights = Linear(normal(4, 3), normal(3, seed=1))
    x = normal(2, 5, 4, seed=2)
    oracles.assert_close(layers.linear(weights, jnp.asarray(x)), x @ weights.weight + weights.bias)


def test_layer_norm():
    x = 5 + 3 * normal(2, 4, 6)
    weights = LayerNorm(normal(6, seed=1), normal(6, seed=2))
    expected = oracles.layer_norm(x, weights._asdict())
    oracles.assert_close(layers.layer_norm(weights, jnp.asarray(x)), expected)


def test_layer_norm_takes_statistics_in_float32():
    x = jnp.asarray(300 + normal(2, 4, 64), jnp.bfloat16)
    weights = LayerNorm(*(jnp.asarray(normal(64, seed=i), jnp.bfloat16) for i in (1, 2)))
    result = layers.layer_norm(weights, x)
    exact = {name: np.asarray(w, np.float64) for name, w in weights._asdict().items()}
    assert result.dtype == jnp.bfloat16
    oracles.assert_close(result, oracles.layer_norm(np.asarray(x, np.float64), exact), 0.02)


@pytest.mark.parametrize("exact", [False, True])
def test_mlp(exact):
    x = normal(2, 4, 6)
    init, apply = hk.without_apply_rng(
        hk.transform(lambda x: layers.mlp(get_mlp(6, 3)[1], x, exact_gelu=exact))
    )
    params = oracles.random_params(init, x)
    assert params["mlp/hidden"]["w"].shape == (6, 18)
    hidden = oracles.linear(x, params["mlp/hidden"])
    # The oracle's tanh approximation is within 1e-3 of the exact GELU, but not within 1e-5.
    expected = oracles.linear(
        hidden * jax.scipy.stats.norm.cdf(hidden) if exact else oracles.gelu(hidden),
        params["mlp/output"],
    )
    oracles.assert_close(apply(params, x), expected)


def test_dropout_keeps_the_mean():
    x = jnp.ones((100, 200))
    dropped = layers.dropout(x, 0.25, jax.random.key(0))
    assert set(np.unique(dropped)) == {np.float32(0), np.float32(1 / 0.75)}
    deviation = np.sqrt(0.25 * 0.75 / x.size)
    assert abs(np.mean(dropped == 0) - 0.25) < 5 * deviation
    np.testing.assert_array_equal(dropped, layers.dropout(x, 0.25, jax.random.key(0)))
    assert np.any(dropped != layers.dropout(x, 0.25, jax.random.key(1)))
    assert layers.dropout(x, 0.25, None) is x


def test_stochastic_depth_drops_whole_examples():
    branch = 1 + jnp.asarray(np.random.default_rng(0).random((1000, 3, 2)))
    result = np.asarray(layers.stochastic_depth(branch, 0.25, jax.random.key(0)))
    kept = result.any((1, 2))
    assert abs(np.mean(kept) - 0.75) < 5 * np.sqrt(0.25 * 0.75 / 1000)
    np.testing.assert_allclose(result[kept], branch[kept] / 0.75, rtol=1e-6)
    assert not result[~kept].any()
    assert layers.stochastic_depth(branch, 0.25, None) is branch


@pytest.mark.parametrize("size", [7, 3000], ids=["small table", "large table"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_gradient_of_embeddings_sums_rows(size, dtype):
    table = jnp.asarray(normal(size, 4), dtype)
    ids = jnp.asarray(np.random.default_rng(1).integers(0, 5, (3, 40)))
    rows, pullback = jax.vjp(lambda table: embed(table, ids), table)
    np.testing.assert_array_equal(rows, table[ids])
    cotangent = jnp.asarray(normal(3, 40, 4, seed=2), dtype)
    expected = np.zeros((size, 4))
    np.add.at(expected, np.asarray(ids), np.asarray(cotangent, np.float64))
    (gradient,) = pullback(cotangent)
    assert gradient.dtype == table.dtype
    oracles.assert_close(gradient, expected, 1e-5 if dtype == "float32" else 0.01)


def test_initial_variance_of_weights():
    init = hk.transform(lambda: get_linear("layer", 400, 300)).init
    params = init(jax.random.key(0))["layer"]
    assert not params["b"].any()
    np.testing.assert_allclose(params["w"].std(), 400**-0.5, rtol=0.02)


@pytest.mark.parametrize("widths,name", [((9, 8), "qk_dim=9"), ((8, 10), "v_dim=10")])
def test_widths_that_heads_do_not_divide(widths, name):
    class Block(hk.Module):
        def __call__(self):
            qk_dim, v_dim = widths
            settings = SelfAttendSettings(num_heads=4, qk_dim=qk_dim, v_dim=v_dim)
            return get_attention(settings, 8, 8)

    with pytest.raises(UserError, match=f"block: {name} does not divide into num_heads=4 heads"):
        hk.transform(lambda: Block()()).init(jax.random.key(0))
