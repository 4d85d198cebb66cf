"""Splitting rows into chunks and joining them."""

import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_io.models.fast.chunks import (
    choose_chunk_size,
    chunk,
    first_chunk,
    num_rows,
    padded,
    put_chunk,
)


@pytest.mark.parametrize(
    "rows,most,size", [(50176, 1024, 1024), (182_528, 1000, 992), (12, 5, 4), (13, 5, 5), (9, 1, 1)]
)
def test_chunk_size_divides_where_a_near_one_does(rows, most, size):
    assert choose_chunk_size(jnp.zeros((1, rows)), most) == size


@pytest.mark.parametrize("rows,size", [(12, 4), (13, 5)])
def test_chunks_keep_the_order_of_rows(rows, size):
    rng = np.random.default_rng(0)
    tree = {
        "own": jnp.asarray(rng.normal(size=(3, rows, 2))),
        "shared": jnp.asarray(rng.normal(size=(1, rows))),
        "none": None,
    }
    assert num_rows(tree) == rows
    whole, count = padded(tree, size), -(-rows // size)
    parts = [chunk(whole, i, size) for i in range(count)]
    for name in ("own", "shared"):
        joined = np.concatenate([part[name] for part in parts], axis=1)
        np.testing.assert_array_equal(joined[:, :rows], tree[name])
        assert joined.shape[1] == count * size and not joined[:, rows:].any()
    assert parts[0]["none"] is None
    shapes = first_chunk(whole, size)
    assert shapes["own"].shape == (3, size, 2) and shapes["shared"].shape == (1, size)


@pytest.mark.parametrize("most,size", [(8, 8), (7, 4), (3, 4), (11, 8)])
def test_chunks_do_not_split_runs(most, size):
    """Arrays with a row for each run of four, or one for all, are split accordingly."""
    places = jnp.arange(24.0).reshape(1, 24)
    tree = (places, places[:, ::4], jnp.ones((1, 1, 7)))
    assert choose_chunk_size(tree, most) == size
    for i in range(24 // size):
        part, runs, shared = chunk(padded(tree, size), i, size)
        np.testing.assert_array_equal(part[:, ::4], runs)
        assert part.shape == (1, size) and shared.shape == (1, 1, 7)


def test_chunks_are_joined_and_shared_rows_summed():
    places = jnp.arange(24.0).reshape(1, 24)
    tree = (places, places[:, ::4], jnp.ones((1, 1, 7)))
    whole = tuple(map(jnp.zeros_like, tree))
    for i in range(3):
        whole = put_chunk(whole, chunk(tree, i, 8), i)
    np.testing.assert_array_equal(whole[0], tree[0])
    np.testing.assert_array_equal(whole[1], tree[1])
    np.testing.assert_array_equal(whole[2], 3 * tree[2])
