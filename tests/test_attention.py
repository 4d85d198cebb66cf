"""Attention as pure functions: against NumPy, and its forms against each other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from perceiver_io.models.keys_values import KeysValues

from perceiver_io.models import attention as attention_module
from perceiver_io.models.attention import (
    AttentionForm,
    Dropout,
    attend,
    attention_form,
    chunked_attention,
    current_form,
    plain_attention,
)
from tests import oracles

# Batch of the queries, batch of the keys, O, M, H, K, V.
SHAPES = [
    (1, 1, 3, 7, 1, 4, 5),
    (2, 2, 4, 6, 3, 2, 5),
    (1, 3, 4, 5, 2, 3, 2),
    (3, 1, 2, 5, 2, 4, 3),
]
SCALE = 0.7


def random_arrays(shape, seed=0):
    query_batch, key_batch, num_queries, num_keys, heads, k, v = shape
    rng = np.random.default_rng(seed)
    return tuple(
        jnp.asarray(rng.normal(size=size), jnp.float32)
        for size in (
            (query_batch, num_queries, heads, k),
            (key_batch, num_keys, heads, k),
            (key_batch, num_keys, heads, v),
        )
    )


def random_mask(batch, length, seed=1):
    """Each row keeps some; the last row of several keeps none."""
    mask = np.random.default_rng(seed).random((batch, length)) < 0.6
    mask[:, 0] = True
    if batch > 1:
        mask[-1] = False
    return jnp.asarray(mask)


def value_and_gradients(function, cotangent, *arguments):
    """function(*arguments) and the gradients of its product with `cotangent`."""

    @jax.jit
    def both(*arguments):
        value, pullback = jax.vjp(function, *arguments)
        return value, pullback(jnp.asarray(cotangent, value.dtype))

    return both(*arguments)


def same_rows(rows):
    return rows


def heads_first(queries):
    return jnp.transpose(queries, (0, 2, 3, 1))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("masked", [False, True], ids=["all keys", "masked keys"])
@pytest.mark.parametrize("chunk_size", [None, 2], ids=["plain", "chunked"])
def test_equals_numpy(shape, masked, chunk_size):
    queries, keys, values = random_arrays(shape)
    batch = max(shape[:2])
    mask = random_mask(batch, shape[3]) if masked else None
    cotangent = np.random.default_rng(2).normal(size=(batch, shape[2], shape[4], shape[6]))

    def attention(queries, keys, values):
        with attention_form(AttentionForm(key_chunk_size=chunk_size)):
            rows = KeysValues(keys, values)
            return attend(heads_first(queries), rows, same_rows, scale=SCALE, key_mask=mask)

    result, gradients = value_and_gradients(attention, cotangent, queries, keys, values)
    oracles.assert_close(result, oracles.attention(queries, keys, values, SCALE, mask), 1e-5)
    expected = oracles.attention_gradients(queries, keys, values, SCALE, cotangent, mask)
    oracles.assert_close(list(gradients), expected, 1e-5)


@pytest.mark.parametrize("chunk_size", [None, 4], ids=["plain", "chunked"])
def test_masked_queries_and_queries_without_keys_give_zeros(chunk_size):
    queries, keys, values = random_arrays((3, 3, 4, 6, 2, 3, 5))
    key_mask, query_mask = random_mask(3, 6), random_mask(3, 4, seed=3)

    def attention(*arrays):
        with attention_form(AttentionForm(key_chunk_size=chunk_size)):
            masks = dict(key_mask=key_mask, query_mask=query_mask)
            return attend(
                heads_first(arrays[0]), KeysValues(*arrays[1:]), same_rows, scale=SCALE, **masks
            )

    result, gradients = value_and_gradients(attention, np.ones((3, 4, 2, 5)), queries, keys, values)
    expected = oracles.attention(queries, keys, values, SCALE, key_mask, query_mask)
    oracles.assert_close(result, expected)
    assert not result[2].any()
    assert not result[~query_mask].any()
    of_queries, of_keys, of_values = gradients
    assert all(np.isfinite(gradient).all() for gradient in gradients)
    assert not of_queries[~query_mask].any()
    assert not of_keys[~key_mask].any()
    assert not of_values[~key_mask].any()
    assert np.abs(of_values[0, 0]).max() > 0


def test_key_bias_adds_to_a_keys_logits():
    queries, keys, values = random_arrays((2, 2, 3, 6, 1, 4, 5))
    bias = jnp.asarray(np.random.default_rng(4).normal(size=(2, 6)), jnp.float32)
    rows = KeysValues(keys, values, bias)
    expected = oracles.attention(queries, keys, values, SCALE, key_bias=bias)
    oracles.assert_close(plain_attention(heads_first(queries), rows, scale=SCALE), expected)
    chunked = chunked_attention(heads_first(queries), rows, same_rows, chunk_size=4, scale=SCALE)
    oracles.assert_close(chunked, expected)


def test_large_logits_do_not_overflow():
    queries, keys, values = random_arrays((1, 1, 3, 9, 1, 4, 5))
    queries = queries * 1e4
    expected = oracles.attention(queries, keys, values, SCALE)
    rows = KeysValues(keys, values)
    oracles.assert_close(plain_attention(heads_first(queries), rows, scale=SCALE), expected)
    chunked = chunked_attention(heads_first(queries), rows, same_rows, chunk_size=2, scale=SCALE)
    oracles.assert_close(chunked, expected)


def projected(weights):
    """Keys and values made from a feature and a position array by `weights`."""

    def keys_values(rows):
        features, positions = rows
        batch = max(len(features), len(positions))
        parts = [jnp.broadcast_to(x, (batch, *x.shape[1:])) for x in rows]
        joined = jnp.concatenate(parts, axis=-1)
        keys, values = (jnp.einsum("bmc,chk->bmhk", joined, weight) for weight in weights)
        return KeysValues(keys, values, joined @ weights[0][:, 0, 0])

    return keys_values


@pytest.mark.parametrize("chunk_size", [1, 4, 5, 50])
@pytest.mark.parametrize("batches", [(1, 1, None), (3, 1, None), (1, 3, 1), (3, 3, 3), (1, 1, 3)])
def test_chunked_equals_plain(chunk_size, batches):
    query_batch, source_batch, mask_batch = batches
    rng = np.random.default_rng(5)
    draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)  # noqa: E731
    queries = draw(query_batch, 4, 2, 3)
    source = (draw(source_batch, 12, 3), draw(1, 12, 2))
    weights = (draw(5, 2, 3), draw(5, 2, 6))
    mask = None if mask_batch is None else random_mask(mask_batch, 12)
    batch = max(query_batch, source_batch, mask_batch or 1)
    cotangent = rng.normal(size=(batch, 4, 2, 6))

    def plain(queries, source, weights):
        rows = projected(weights)(source)
        return plain_attention(heads_first(queries), rows, scale=SCALE, key_mask=mask)

    def chunked(queries, source, weights):
        chunks = dict(chunk_size=chunk_size, scale=SCALE, key_mask=mask)
        return chunked_attention(heads_first(queries), source, projected(weights), **chunks)

    arguments = (queries, source, weights)
    oracles.assert_close(
        value_and_gradients(chunked, cotangent, *arguments),
        value_and_gradients(plain, cotangent, *arguments),
        1e-5,
    )


@pytest.mark.parametrize("chunk_size", [4, 12], ids=["chunks", "all keys"])
@pytest.mark.parametrize("batches", [(1, 1, None), (1, 3, 1), (3, 3, 3)])
def test_heads_in_turns_equal_plain(monkeypatch, chunk_size, batches):
    query_batch, key_batch, mask_batch = batches
    arrays = random_arrays((query_batch, key_batch, 5, 12, 6, 3, 2))
    mask = None if mask_batch is None else random_mask(mask_batch, 12)
    cotangent = np.random.default_rng(6).normal(size=(max(query_batch, key_batch), 5, 6, 2))

    def attention(chunk_size):
        def function(queries, keys, values):
            with attention_form(AttentionForm(key_chunk_size=chunk_size)):
                rows = KeysValues(keys, values)
                return attend(heads_first(queries), rows, same_rows, scale=SCALE, key_mask=mask)

        return function

    plain = value_and_gradients(attention(None), cotangent, *arrays)
    # Two heads at a time, of the six.
    monkeypatch.setattr(attention_module, "_LOGITS_AT_ONCE", max(batches[:2]) * 2 * chunk_size * 5)
    program = str(jax.make_jaxpr(attention(chunk_size))(*arrays))
    assert "length=3" in program
    oracles.assert_close(
        value_and_gradients(attention(chunk_size), cotangent, *arrays), plain, 1e-5
    )


@pytest.mark.parametrize("chunk_size", [None, 8], ids=["plain", "chunked"])
def test_bfloat16_accumulates_in_float32(chunk_size):
    arrays = random_arrays((2, 2, 8, 64, 2, 16, 16))
    low = [jnp.asarray(x, jnp.bfloat16) for x in arrays]
    with attention_form(AttentionForm(key_chunk_size=chunk_size)):
        result = attend(heads_first(low[0]), KeysValues(*low[1:]), same_rows, scale=0.25)
    assert result.dtype == jnp.bfloat16
    # Of the rounded inputs: what is left is the rounding of queries, weights and result.
    rounded = [np.asarray(x, np.float32) for x in low]
    oracles.assert_close(result, oracles.attention(*rounded, 0.25), 0.02)


@pytest.mark.parametrize("chunk_size", [None, 60], ids=["plain", "chunked"])
def test_dropout_thins_weights_and_keeps_their_mean(chunk_size):
    num_keys, num_queries, rate = 240, 200, 0.3
    queries, keys, _ = random_arrays((1, 1, num_queries, num_keys, 1, 4, 1))
    # Values that are the unit vectors, so that the result is the weights themselves.
    rows = KeysValues(keys, jnp.eye(num_keys)[None, :, None])
    weights = oracles.attention_weights(queries, keys, SCALE)[0, 0]
    with attention_form(AttentionForm(key_chunk_size=chunk_size)):
        dropped = attend(
            heads_first(queries),
            rows,
            same_rows,
            scale=SCALE,
            dropout=Dropout(rate, jax.random.key(0)),
        )
    dropped = np.asarray(dropped)[0, :, 0]
    kept = dropped != 0
    # Five standard deviations of the share among this many weights.
    deviation = np.sqrt(rate * (1 - rate) / kept.size)
    assert abs(kept.mean() - (1 - rate)) < 5 * deviation
    np.testing.assert_allclose(dropped[kept], (weights / (1 - rate))[kept], rtol=1e-4)
    # Independent over queries and over keys: no row or column is dropped as a whole, and no two
    # stretches of keys are dropped alike.
    assert np.abs(kept.mean(0) - 0.7).max() < 0.25 and np.abs(kept.mean(1) - 0.7).max() < 0.25
    assert np.mean(kept[:, :60] == kept[:, 60:120]) < 0.7
    assert abs(dropped.sum(-1).mean() - 1) < 0.05


def test_form_is_of_the_context_only():
    assert current_form() == AttentionForm()
    with pytest.raises(RuntimeError), attention_form(AttentionForm(None, False)):
        assert current_form() == AttentionForm(None, False)
        raise RuntimeError
    assert current_form() == AttentionForm()


@pytest.mark.parametrize("chunk_size,scanned", [(None, False), (9, False), (8, True)])
def test_long_inputs_are_taken_in_chunks(chunk_size, scanned):
    arrays = random_arrays((1, 1, 2, 9, 1, 4, 4))
    with attention_form(AttentionForm(key_chunk_size=chunk_size)):
        program = jax.make_jaxpr(
            lambda q, k, v: attend(heads_first(q), KeysValues(k, v), same_rows, scale=SCALE)
        )(*arrays)
    assert ("scan" in str(program)) == scanned


@pytest.mark.parametrize("gradient", [False, True], ids=["forward", "gradient"])
def test_memory_of_chunks_is_linear(gradient):
    def temporary_bytes(length, chunk_size):
        def attention(queries, keys, values):
            with attention_form(AttentionForm(key_chunk_size=chunk_size)):
                return attend(
                    heads_first(queries), KeysValues(keys, values), same_rows, scale=SCALE
                )

        def loss(*arrays):
            return jnp.square(attention(*arrays)).sum()

        function = jax.grad(loss, argnums=(0, 1, 2)) if gradient else attention
        array = jax.ShapeDtypeStruct((1, length, 2, 8), jnp.float32)
        compiled = jax.jit(function).lower(array, array, array).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    short, long = 1024, 4096
    assert temporary_bytes(long, None) > 12 * temporary_bytes(short, None)
    assert temporary_bytes(long, 128) < 6 * temporary_bytes(short, 128)
    assert temporary_bytes(long, 128) < temporary_bytes(long, None) / 8


def test_heads_in_turns_drop_independently(monkeypatch):
    queries, keys, _ = random_arrays((1, 1, 20, 40, 2, 4, 1))
    same = [jnp.repeat(x[:, :, :1], 2, axis=2) for x in (queries, keys)]
    values = jnp.broadcast_to(jnp.eye(40)[None, :, None], (1, 40, 2, 40))
    monkeypatch.setattr(attention_module, "_LOGITS_AT_ONCE", 20 * 40)
    rows = KeysValues(same[1], values)
    dropout = Dropout(0.5, jax.random.key(0))
    result = attend(heads_first(same[0]), rows, same_rows, scale=SCALE, dropout=dropout)
    kept = np.asarray(result)[0] != 0
    assert abs(np.mean(kept[:, 0] == kept[:, 1]) - 0.5) < 0.1
