"""The bias of relative attention: a number for each head and offset between two places."""

import dataclasses
import math

import haiku as hk
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from perceiver_io.models.coatnet.settings import CoAtNetBlocks
from perceiver_io.models.layers import linear
from perceiver_io.models.weights import POSITION_INIT, get_linear

Grid = tuple[int, int]

Offsets = Float[Array, "P Q heads"]
"""A number for each head and offset: P = 2H - 1 of rows, from 1 - H to H - 1, and Q of columns."""


def get_offsets(settings: CoAtNetBlocks, own: Grid, grid: Grid, num_heads: int) -> Offsets | None:
    """The bias of each offset on a grid; None if there is none.

    A table is learned for the model's own grid, and resized to others.
    """
    if settings.relative_bias == "none":
        return None
    if settings.relative_bias == "table":
        shape = _num_offsets(own)
        init = dataclasses.replace(POSITION_INIT, grid=shape)
        table = hk.get_parameter("table", [math.prod(shape), num_heads], init=init)
        return resized(table.reshape(*shape, num_heads), grid)
    hidden = get_linear("offset_hidden", 2, settings.relative_bias_hidden)
    output = get_linear("offset_output", settings.relative_bias_hidden, num_heads)
    offsets = log_offsets(grid).astype(hidden.weight.dtype)
    return linear(output, jax.nn.relu(linear(hidden, offsets)))


def relative_bias(offsets: Offsets) -> Float[Array, "1 heads N N"]:
    """The bias w_(i - j) of query i and key j, N = H W places row by row (section 2.1).

    It is a sum of shifted copies rather than a lookup, whose gradient would be a scatter: slow, and
    on GPUs in a different order of additions each time.
    """
    rows = _differences(offsets)  # [H keys, H queries, 2W-1, heads]
    both = _differences(jnp.moveaxis(rows, 2, 0))  # [W keys, W queries, H keys, H queries, heads]
    width, _, height, _, heads = both.shape
    by_head = jnp.transpose(both, (4, 3, 1, 2, 0))
    return by_head.reshape(1, heads, height * width, height * width).astype(jnp.float32)


def resized(offsets: Offsets, grid: Grid) -> Float[Array, "R S heads"]:
    """The same bias for another grid, interpolated bilinearly (appendix A.1).

    For a smaller grid, the interpolation averages, so that every entry has a gradient.
    """
    size = (*_num_offsets(grid), offsets.shape[-1])
    return jax.image.resize(offsets.astype(jnp.float32), size, "linear")


def log_offsets(grid: Grid) -> Float[Array, "P Q 2"]:
    """sign(d) log(1 + |d|) of the offset d in rows and in columns (2111.09883, section 3.3)."""
    axes = [jnp.arange(1 - side, side, dtype=jnp.float32) for side in grid]
    both = jnp.stack(jnp.meshgrid(*axes, indexing="ij"), -1)
    return jnp.sign(both) * jnp.log1p(jnp.abs(both))


def _num_offsets(grid: Grid) -> Grid:
    return 2 * grid[0] - 1, 2 * grid[1] - 1


def _differences(x: Float[Array, "P ..."]) -> Float[Array, "n n ..."]:
    """[j, i] -> x[i - j + n - 1].

    Rows of length 2n, cut into rows of 2n - 1, are each shifted by one more.
    """
    n, rest = (len(x) + 1) // 2, x.shape[1:]
    longer = jnp.concatenate([x, x[:1]])
    flat = jnp.broadcast_to(longer, (n, *longer.shape)).reshape(-1, *rest)
    return flat[: n * (2 * n - 1)].reshape(n, 2 * n - 1, *rest)[:, n - 1 :]
