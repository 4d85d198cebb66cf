"""Position encodings: Fourier features, learned embeddings, projections of either.

Each has features for a whole grid, `grid(shape) -> [1, M, P]` with axes flattened in array order,
and for individual points, `at(points)`.
"""

import dataclasses
import math
from typing import Protocol, runtime_checkable

import haiku as hk
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from perceiver_io.config.annotations import Real
from perceiver_io.errors import UserError
from perceiver_io.models.perceiver.tokens import GridPositions
from perceiver_io.models.weights import BIAS_INIT, POSITION_INIT, WEIGHT_INIT


@runtime_checkable
class Positions(Protocol):
    """A position encoding."""

    @property
    def width(self) -> int:
        """P, the channels of a position encoding."""

    def grid(self, shape: tuple[int, ...]) -> Float[Array, "1 M P"]:
        """Features of all points of a grid."""

    def at(self, points: Array) -> Float[Array, "B M P"]:
        """Features of the given points."""


def subsampled_coordinates(
    indices: Int[Array, "B M"], shape: tuple[int, ...]
) -> Float[Array, "B M A"]:
    """Coordinates in [-1, 1) of flat indices into a grid.

    The published models place subsampled queries at -1 + 2 i / N, whereas a dense grid spans -1
    to 1 including both ends; published weights expect both conventions.
    """
    axes = jnp.unravel_index(indices, shape)
    return jnp.stack([-1 + 2 * axis / size for axis, size in zip(axes, shape, strict=True)], -1)


@dataclasses.dataclass(frozen=True)
class FourierPositions:
    """Fourier features (Perceiver, section 3.2).

    Frequencies are linearly spaced from 1 to half the resolution (Nyquist) for each axis. Channels:
    raw coordinates, then all sines axis by axis, then all cosines, of pi * frequency * coordinate.

    num_bands: number of frequencies per axis.
    resolution: number of samples per axis, which sets the highest frequency; for points, twice that
        frequency. A grid of another shape keeps these frequencies.
    concatenate_coordinates: whether the raw coordinates come first.
    sine_only: whether the cosines are omitted.
    """

    num_bands: int
    resolution: tuple[Real, ...]
    concatenate_coordinates: bool = True
    sine_only: bool = False

    @property
    def width(self) -> int:
        """P, the channels of a position encoding."""
        waves = self.num_bands * (1 if self.sine_only else 2)
        return len(self.resolution) * (waves + self.concatenate_coordinates)

    def grid(self, shape: tuple[int, ...]) -> Float[Array, "1 M P"]:
        """Features of a grid that spans -1 to 1 on each axis, including both ends."""
        return self.rows_and_columns(shape).dense()

    def rows_and_columns(self, shape: tuple[int, ...]) -> GridPositions:
        """The same as a sum: each channel belongs to one axis, and is zero in the other summand.

        Sines are computed along the edges only, however many points the grid has.
        """
        self._check_axes(len(shape))
        coordinates = [jnp.linspace(-1.0, 1.0, size) for size in shape]
        *others, last = shape
        others, columns_axis = tuple(others), len(shape) - 1

        def of_rows(x, axis):
            if axis == columns_axis:
                return jnp.zeros((math.prod(others), x.shape[-1]))
            return _along(x, axis, others)

        def of_columns(x, axis):
            return x if axis == columns_axis else jnp.zeros((last, x.shape[-1]))

        rows, columns = (self._features(coordinates, spread) for spread in (of_rows, of_columns))
        return GridPositions(rows[None], columns[None, None])

    def at(self, points: Float[Array, "*B M A"]) -> Float[Array, "*B M P"]:
        """Features of points given by their coordinates in [-1, 1], one per axis."""
        self._check_axes(points.shape[-1])
        coordinates = [points[..., axis] for axis in range(points.shape[-1])]
        return self._features(coordinates, lambda x, axis: x)

    def _features(self, coordinates, spread) -> Array:
        angles = [
            jnp.pi * x[..., None] * jnp.linspace(1.0, resolution / 2, self.num_bands)
            for x, resolution in zip(coordinates, self.resolution, strict=True)
        ]
        parts = [x[..., None] for x in coordinates] if self.concatenate_coordinates else []
        parts += [jnp.sin(angle) for angle in angles]
        parts += [] if self.sine_only else [jnp.cos(angle) for angle in angles]
        axes = len(coordinates)
        return jnp.concatenate([spread(x, i % axes) for i, x in enumerate(parts)], axis=-1)

    def _check_axes(self, axes: int) -> None:
        if axes != len(self.resolution):
            raise UserError(
                f"Fourier positions of {len(self.resolution)} axes (resolution={self.resolution}) "
                f"were given points of {axes} axes: `resolution` needs one number per axis."
            )


def _along(x: Array, axis: int, shape: tuple[int, ...]) -> Array:
    """Repeats [n_axis, P] over the other axes of a grid, flattened: [M, P]."""
    ones = [1] * len(shape)
    ones[axis] = shape[axis]
    return jnp.broadcast_to(x.reshape(*ones, -1), (*shape, x.shape[-1])).reshape(-1, x.shape[-1])


def grid_of(positions: Positions, shape: tuple[int, ...]) -> Float[Array, "1 M P"] | GridPositions:
    """Features of all points of a grid, as a sum of rows and columns where possible."""
    if isinstance(positions, FourierPositions) and math.prod(shape[:-1]) > 1:
        return positions.rows_and_columns(shape)
    return positions.grid(shape)


_REMEDY = (
    "use the size the model was built for, or a model with Fourier positions, which work for any "
    "size."
)


class LearnedPositions(hk.Module):
    """One learned embedding per cell of a grid, such as (height, width) or (length,).

    Args:
        shape: of the grid.
        dim: width of the embeddings.
        scale: standard deviation of their initial values, before truncation.
    """

    def __init__(
        self, shape: tuple[int, ...], dim: int, scale: float = 0.02, name: str = "positions"
    ):
        super().__init__(name=name)
        self._shape, self._dim, self._scale = shape, dim, scale

    @property
    def num_positions(self) -> int:
        """M, the number of embeddings."""
        return math.prod(self._shape)

    @property
    def width(self) -> int:
        """P, the channels of an embedding."""
        return self._dim

    def _embeddings(self) -> Float[Array, "M P"]:
        draw = hk.initializers.TruncatedNormal(self._scale)
        init = dataclasses.replace(POSITION_INIT, init=draw, grid=self._shape)
        try:
            return hk.get_parameter("embeddings", (self.num_positions, self._dim), init=init)
        except ValueError as error:  # It was made for another grid.
            raise UserError(
                f"The model has learned positions for other inputs than {self._shape}: {_REMEDY}"
            ) from error

    def grid(self, shape: tuple[int, ...]) -> Float[Array, "1 M P"]:
        """All embeddings, for a grid of the same shape. Raises UserError for others."""
        if shape != self._shape:
            raise UserError(
                f"The model has learned positions for {self._shape} inputs, not {shape}: {_REMEDY}"
            )
        return self._embeddings()[None]

    def at(self, points: Int[Array, "B M"]) -> Float[Array, "B M P"]:
        """Embeddings of the cells with these indices."""
        return self._embeddings()[points]


@dataclasses.dataclass(frozen=True)
class ProjectedPositions:
    """Position encodings projected to another width by a linear layer."""

    positions: Positions
    dim: int
    name: str = "project_positions"

    @property
    def width(self) -> int:
        """P, the channels of a projected encoding."""
        return self.dim

    def _project(self, x: Array) -> Array:
        return hk.Linear(self.dim, w_init=WEIGHT_INIT, b_init=BIAS_INIT, name=self.name)(x)

    def grid(self, shape: tuple[int, ...]) -> Float[Array, "1 M P"]:
        """Projected features of a grid."""
        return self._project(self.positions.grid(shape))

    def at(self, points: Array) -> Float[Array, "B M P"]:
        """Projected features of the given points."""
        return self._project(self.positions.at(points))
