"""Rows of arrays in chunks, for loops whose memory does not grow with the number of rows."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def num_rows(tree: Any) -> int:
    """M of arrays [B, M, ...]."""
    return jax.tree.leaves(tree)[0].shape[1]


def choose_chunk_size(rows: int, most: int) -> int:
    """Rows a chunk: a divisor of `rows` close to `most`, else `most`, with the last one padded."""
    divisors = (size for size in range(most, most // 2, -1) if rows % size == 0)
    return next(divisors, most)


def split_rows(tree: Any, size: int) -> tuple[Any, Callable[[Any], Any]]:
    """Arrays [B, M, ...] as chunks to loop over, and what makes arrays [B, size, ...] of one.

    The last chunk is padded with zeros. Arrays with a batch of 1 go without that axis in between:
    XLA would copy them for the loop otherwise.
    """

    def split(x):
        batch, rows, *rest = x.shape
        padding = -rows % size
        if padding:
            x = jnp.pad(x, [(0, 0), (0, padding)] + [(0, 0)] * len(rest))
        if batch == 1:
            return x.reshape(-1, size, *rest)
        return jnp.moveaxis(x.reshape(batch, -1, size, *rest), 1, 0)

    def restore(chunk):
        return jax.tree.map(lambda whole, x: x[None] if len(whole) == 1 else x, tree, chunk)

    return jax.tree.map(split, tree), restore
