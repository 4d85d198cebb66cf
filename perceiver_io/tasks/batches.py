"""Processes any number of rows in batches of one size, so that only one program is compiled."""

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from perceiver_io.errors import UserError

_MOST_AT_A_TIME = 4096

Advance = Callable[[int], Any]
"""Called after each step with the amount of work done; for example a progress bar's `update`."""


def ignore(done: int) -> None:
    """An `Advance` that does nothing."""


def in_batches(
    function: Callable[[np.ndarray], PyTree], rows: np.ndarray, size: int, advance: Advance
) -> PyTree[np.ndarray]:
    """Applies `function` to rows [N, ...], `size` at a time, and concatenates its results.

    The last batch is padded with copies of the last row, whose results are dropped. There must be
    at least one row.
    """
    results = []
    for start in range(0, len(rows), size):
        batch = rows[start : start + size]
        count = len(batch)
        filled = np.concatenate([batch, np.repeat(batch[-1:], size - count, axis=0)])
        result = function(filled)
        results.append(jax.tree.map(lambda x, count=count: np.asarray(x)[:count], result))
        advance(count)
    return jax.tree.map(lambda *parts: np.concatenate(parts), *results)


def each_in_batches(
    function: Callable[[PyTree[np.ndarray]], PyTree],
    rows: Iterable[PyTree[np.ndarray]],
    size: int,
    advance: Advance,
) -> Iterator[PyTree[np.ndarray]]:
    """Yields the result of each row as `in_batches` does, for an iterator of rows.

    Rows may be arrays, or trees of them.
    """
    rows = iter(rows)
    while batch := list(itertools.islice(rows, size)):
        filled = batch + batch[-1:] * (size - len(batch))
        stacked = jax.tree.map(lambda *arrays: np.stack(arrays), *filled)
        result = jax.tree.map(np.asarray, function(stacked))
        advance(len(batch))
        for index in range(len(batch)):
            yield jax.tree.map(lambda x, index=index: x[index], result)


DIVERGED = (
    "the weights are damaged, or their training diverged. Copy them again, or use another "
    "checkpoint."
)


def check_finite(answers: PyTree[np.ndarray]) -> None:
    """Raises UserError if results of a model are NaN or infinite."""
    if not all(np.isfinite(array).all() for array in jax.tree.leaves(answers)):
        raise UserError(f"The results of the model are not finite (NaN or infinity): {DIVERGED}")


def check_positive(**numbers: int) -> None:
    """Raises UserError naming a number that is below 1."""
    for name, value in numbers.items():
        if value < 1:
            raise UserError(f"{name}={value} must be at least 1.")


def check_batch_size(batch_size: int) -> None:
    """Raises UserError for a batch size that is impossible."""
    if not 1 <= batch_size <= _MOST_AT_A_TIME:
        raise UserError(
            f"batch_size={batch_size} must be at least 1 and at most {_MOST_AT_A_TIME:,}, since "
            "there is not enough memory for more."
        )


def check_natural(**numbers: int) -> None:
    """Raises UserError naming a number that is below 0."""
    for name, value in numbers.items():
        if value < 0:
            raise UserError(f"{name}={value} must be at least 0.")
