"""Rows of arrays in chunks, for loops whose memory does not grow with the number of rows.

A tree of arrays has M rows if its first array has. The others are [B, M, ...] too, or hold one row
for each run of M / R, [B, R, ...], or one that is the same for all, [B, 1, ...].
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def num_rows(tree: Any) -> int:
    """M of arrays [B, M, ...]."""
    return jax.tree.leaves(tree)[0].shape[1]


def choose_chunk_size(tree: Any, most: int) -> int:
    """Rows a chunk, in whole runs, at least one of them.

    Chunks divide M and are close to `most`; else they are `most`, with the last one padded.
    """
    rows = num_rows(tree)
    runs = min((x.shape[1] for x in jax.tree.leaves(tree) if x.shape[1] > 1), default=rows)
    most = max(1, most * runs // rows)
    divisors = (size for size in range(most, most // 2, -1) if runs % size == 0)
    return next(divisors, most) * (rows // runs)


def split_rows(tree: Any, size: int) -> tuple[Any, Callable[[Any], Any]]:
    """Arrays as chunks of `size` rows to loop over, and what makes the tree of one chunk.

    The last chunk is padded with zeros. Arrays with a batch of 1 go without that axis in between:
    XLA would copy them for the loop otherwise. Rows that all chunks share are not looped over.
    """
    rows = num_rows(tree)
    leaves, structure = jax.tree.flatten(tree)
    is_shared = [x.shape[1] == 1 < rows for x in leaves]

    def split(x):
        batch, own_rows, *rest = x.shape
        own_size = size * own_rows // rows
        padding = -own_rows % own_size
        if padding:
            x = jnp.pad(x, [(0, 0), (0, padding)] + [(0, 0)] * len(rest))
        if batch == 1:
            return x.reshape(-1, own_size, *rest)
        return jnp.moveaxis(x.reshape(batch, -1, own_size, *rest), 1, 0)

    def restore(chunk):
        parts = iter(chunk)
        restored = [
            x if shared else next(parts)[None] if len(x) == 1 else next(parts)
            for x, shared in zip(leaves, is_shared, strict=True)
        ]
        return jax.tree.unflatten(structure, restored)

    return [split(x) for x, shared in zip(leaves, is_shared, strict=True) if not shared], restore
