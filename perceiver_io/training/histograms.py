"""Histograms of parameters, computed where the parameters are."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from perceiver_io.training.state import Params, names

_BINS = 64


class Histogram(NamedTuple):
    """How the values of an array are distributed over bins of equal width.

    limits: upper ends of the bins; the lowest begins at the least value.
    counts: values in each bin.
    least: the least value; the greatest is the last limit.
    total: sum of the values.
    squares: sum of their squares.
    """

    limits: Float[Array, " n"]
    counts: Int[Array, " n"]
    least: Float[Array, ""]
    total: Float[Array, ""]
    squares: Float[Array, ""]


def histograms(params: Params) -> dict[str, Histogram]:
    """The histogram of each parameter, by name; traced. Shards are counted where they are."""
    return {name: _histogram(value.astype(jnp.float32)) for name, value in names(params).items()}


def _histogram(x: Float[Array, "..."]) -> Histogram:
    least, greatest = x.min(), x.max()
    limits = jnp.linspace(least, greatest, _BINS + 1)[1:]
    # One pass for each limit: to bring all values of an array together would gather its shards.
    up_to = jax.lax.map(lambda limit: (x <= limit).sum(), limits[:-1])
    up_to = jnp.append(up_to, x.size)
    counts = jnp.diff(up_to, prepend=0)
    return Histogram(limits.at[-1].set(greatest), counts, least, x.sum(), jnp.square(x).sum())
