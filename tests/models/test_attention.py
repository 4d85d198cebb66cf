"""Attention as in the textbook, against NumPy."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_io.models.attention import attention, attention_map, split_heads
from tests.helpers import oracles
from tests.helpers.oracles import normal, random_mask

# Batch size of queries and of keys, O, M, H, K, V.
SHAPES = [
    (1, 1, 3, 7, 1, 4, 5),
    (2, 2, 4, 6, 3, 2, 5),
    (1, 3, 4, 5, 2, 3, 2),
    (3, 1, 2, 5, 2, 4, 3),
]
SCALE = 0.7


def random_arrays(shape):
    query_batch, key_batch, num_queries, num_keys, heads, k, v = shape
    return (
        normal(query_batch, num_queries, heads, k),
        normal(key_batch, num_keys, heads, k, seed=1),
        normal(key_batch, num_keys, heads, v, seed=2),
    )


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("masked", [False, True], ids=["all keys", "masked keys"])
def test_equals_numpy(shape, masked):
    arrays = random_arrays(shape)
    batch = max(shape[:2])
    mask = random_mask(batch, shape[3]) if masked else None
    function = lambda *x: attention(*x, scale=SCALE, key_mask=mask)  # noqa: E731
    result, pullback = jax.vjp(function, *arrays)
    oracles.assert_close(result, oracles.attention(*arrays, SCALE, mask))
    cotangent = normal(*result.shape, seed=3)
    expected = oracles.attention_gradients(*arrays, SCALE, cotangent, mask)
    oracles.assert_close(list(pullback(cotangent)), expected)


@pytest.mark.parametrize("shape", itertools.product((1, 2), (1, 3), (1, 4), (1, 6)), ids=str)
def test_bias_of_every_shape(shape):
    arrays = (*random_arrays((2, 2, 4, 6, 3, 2, 5)), normal(*shape, seed=4))
    mask = random_mask(2, 6, empty=False)

    def function(queries, keys, values, bias):
        return attention(queries, keys, values, scale=SCALE, bias=bias, key_mask=mask)

    result, pullback = jax.vjp(function, *arrays)
    *arrays, bias = arrays
    oracles.assert_close(result, oracles.attention(*arrays, SCALE, mask, bias=bias))
    cotangent = normal(*result.shape, seed=3)
    expected = oracles.attention_gradients(*arrays, SCALE, cotangent, mask, bias)
    oracles.assert_close(list(pullback(cotangent)), expected)


def test_logits_are_scaled_by_the_root_of_the_head_size_by_default():
    queries, keys, values = random_arrays(SHAPES[1])
    oracles.assert_close(
        attention(queries, keys, values), oracles.attention(queries, keys, values, 2**-0.5)
    )


def test_masked_queries_and_queries_without_keys_give_zeros():
    arrays = random_arrays((3, 3, 4, 6, 2, 3, 5))
    key_mask, query_mask = random_mask(3, 6), random_mask(3, 4, seed=3)

    def function(*arrays):
        return attention(*arrays, scale=SCALE, key_mask=key_mask, query_mask=query_mask)

    result, gradients = oracles.values_and_gradients(function, *arrays)
    oracles.assert_close(result, oracles.attention(*arrays, SCALE, key_mask, query_mask))
    assert not result[2].any() and not result[~query_mask].any()
    of_queries, of_keys, of_values = gradients
    assert all(np.isfinite(gradient).all() for gradient in gradients)
    assert not of_queries[~query_mask].any()
    assert not of_keys[~key_mask].any() and not of_values[~key_mask].any()
    assert np.abs(of_values[0, 0]).max() > 0


def test_large_logits_do_not_overflow():
    queries, keys, values = random_arrays((1, 1, 3, 9, 1, 4, 5))
    expected = oracles.attention(queries * 1e4, keys, values, SCALE)
    oracles.assert_close(attention(queries * 1e4, keys, values, scale=SCALE), expected)


def test_bfloat16_has_its_softmax_in_float32():
    low = [jnp.asarray(x, jnp.bfloat16) for x in random_arrays((2, 2, 8, 64, 2, 16, 16))]
    assert attention_map(*low[:2]).dtype == jnp.float32
    result = attention(*low)
    assert result.dtype == jnp.bfloat16
    # Compared for rounded inputs, so only rounding of the weights and the result remains.
    rounded = [np.asarray(x, np.float32) for x in low]
    oracles.assert_close(result, oracles.attention(*rounded, 0.25), 0.02)


def test_map_has_rows_that_sum_to_one_or_to_zero():
    queries, keys, _ = random_arrays((1, 3, 4, 6, 2, 3, 5))
    key_mask, query_mask = random_mask(3, 6), random_mask(3, 4, seed=3, empty=False)
    shown = attention_map(queries, keys, key_mask=key_mask, query_mask=query_mask, scale=SCALE)
    expected = oracles.attention_weights(queries, keys, SCALE, key_mask)
    expected = np.where(query_mask[:, None, :, None], expected, 0)
    oracles.assert_close(shown, expected)
    sees = np.asarray(query_mask & key_mask.any(-1, keepdims=True))[:, None]
    np.testing.assert_allclose(
        shown.sum(-1), np.broadcast_to(sees, shown.shape[:3]).astype(float), atol=1e-6
    )


def test_heads_are_adjacent_columns():
    x = normal(2, 3, 8)
    heads = split_heads(jnp.asarray(x), 2)
    np.testing.assert_array_equal(heads[:, :, 1], x[..., 4:])
    np.testing.assert_array_equal(heads.reshape(x.shape), x)
