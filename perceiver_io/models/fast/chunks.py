"""Trees of arrays in chunks of rows, for loops whose memory does not grow with the number of rows.

The first array of a tree is [B, M, ...], with M rows. The others have M rows too, or one row for
each run of M / R consecutive rows, [B, R, ...], or a single row shared by all, [B, 1, ...].
"""

from typing import TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PyTree

Tree = TypeVar("Tree", bound=PyTree[Array])


def num_rows(tree: PyTree[Array | jax.ShapeDtypeStruct]) -> int:
    """M of arrays [B, M, ...]."""
    return jax.tree.leaves(tree)[0].shape[1]


def choose_chunk_size(tree: PyTree[Array | jax.ShapeDtypeStruct], most: int) -> int:
    """The number of rows per chunk: one or more whole runs, about `most` rows.

    A divisor of M, if there is one between most / 2 and `most`; else `most`, and the last chunk is
    to be padded.
    """
    rows = num_rows(tree)
    runs = min((x.shape[1] for x in jax.tree.leaves(tree) if x.shape[1] > 1), default=rows)
    most = max(1, most * runs // rows)
    divisors = (size for size in range(most, most // 2, -1) if runs % size == 0)
    return next(divisors, most) * (rows // runs)


def padded(tree: Tree, size: int) -> Tree:
    """The arrays, zero-padded to whole chunks of `size` rows."""
    rows = num_rows(tree)

    def pad(x):
        missing = -rows % size * x.shape[1] // rows
        if _is_shared(x, rows) or not missing:
            return x
        return jnp.pad(x, [(0, 0), (0, missing)] + [(0, 0)] * (x.ndim - 2))

    return jax.tree.map(pad, tree)


def chunk(tree: Tree, index: Int[Array, ""] | int, size: int) -> Tree:
    """Chunk `index`, of `size` rows, of arrays in whole chunks; shared rows are in every chunk."""
    rows = num_rows(tree)

    def take(x):
        if _is_shared(x, rows):
            return x
        own_size = size * x.shape[1] // rows
        return jax.lax.dynamic_slice_in_dim(x, index * own_size, own_size, axis=1)

    return jax.tree.map(take, tree)


def first_chunk(tree: PyTree[Array], size: int) -> PyTree[jax.ShapeDtypeStruct]:
    """Shapes and dtypes of one chunk."""
    return jax.eval_shape(lambda x: chunk(x, 0, size), tree)


def _is_shared(x: Array, rows: int) -> bool:
    return x.shape[1] == 1 < rows


def put_chunk(whole: Tree, part: Tree, index: Int[Array, ""] | int) -> Tree:
    """The arrays with chunk `index` set to `part`; for shared rows, `part` is added."""

    def put(x, part):
        if x.shape == part.shape:
            return x + part.astype(x.dtype)
        return jax.lax.dynamic_update_slice_in_dim(
            x, part.astype(x.dtype), index * part.shape[1], axis=1
        )

    return jax.tree.map(put, whole, part)
