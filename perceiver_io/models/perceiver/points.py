"""Input adapters for point clouds, built from a config section."""

from typing import Annotated

import jax
import jax.numpy as jnp

from perceiver_io.config.annotations import INPUT_SIZE, UNSEEN, Length, Positive, Real, Size, Width
from perceiver_io.models.perceiver.inputs import Inputs, ReadyTokens
from perceiver_io.models.perceiver.positions import FourierPositions

MaxFrequency = Annotated[Positive, UNSEEN]


def fourier_points(
    num_points: Annotated[Length, INPUT_SIZE], num_bands: Width, max_frequency: MaxFrequency
) -> Inputs:
    """Points, each as Fourier features of its coordinates x, y, z (Perceiver, section 4.3).

    `max_frequency` is in half periods per unit, so that 112 is that of images of 224 pixels, whose
    coordinates go from -1 to 1.
    """
    return _points(num_points, num_bands, max_frequency, ReadyTokens())


def fourier_point_grid(
    grid: Annotated[Size, INPUT_SIZE], num_bands: Width, max_frequency: MaxFrequency
) -> Inputs:
    """The same, with the points row by row on a grid in the order in which they come."""
    return _points(grid[0] * grid[1], num_bands, max_frequency, ReadyTokens(grid))


def _points(num_points: int, num_bands: int, max_frequency: Real, adapter: ReadyTokens) -> Inputs:
    positions = FourierPositions(num_bands, (2 * max_frequency,) * 3)
    spec = jax.ShapeDtypeStruct((1, num_points, 3), jnp.float32)
    return Inputs(adapter, spec, positions.at)


POINT_INPUTS = {"fourier_points": fourier_points, "fourier_point_grid": fourier_point_grid}
