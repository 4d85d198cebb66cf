"""Position encodings against formulas evaluated point by point."""

import math

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_io.errors import UserError
from perceiver_io.models.perceiver.positions import (
    FourierPositions,
    LearnedPositions,
    ProjectedPositions,
    subsampled_coordinates,
)

GRIDS = [((5,), (7,)), ((4, 6), (4, 6)), ((8, 3), (5, 9)), ((2, 3, 4), (3, 2, 5))]


def fourier(point, num_bands, resolution, coordinates=True, cosines=True):
    """The channels of one point, one scalar at a time."""
    channels = list(point) if coordinates else []
    for wave in (math.sin, math.cos) if cosines else (math.sin,):
        for x, samples in zip(point, resolution, strict=True):
            for band in range(num_bands):
                frequency = 1 + (samples / 2 - 1) * band / (num_bands - 1)
                channels.append(wave(math.pi * frequency * x))
    return channels


def points_of(shape):
    """Every point of a grid from -1 to 1, last axis fastest."""
    for index in np.ndindex(*shape):
        yield [-1 + 2 * i / (size - 1) for i, size in zip(index, shape, strict=True)]


@pytest.mark.parametrize("shape,resolution", GRIDS, ids=str)
@pytest.mark.parametrize("coordinates", [True, False])
@pytest.mark.parametrize("cosines", [True, False])
def test_fourier_grid(shape, resolution, coordinates, cosines):
    positions = FourierPositions(
        num_bands=4,
        resolution=resolution,
        concatenate_coordinates=coordinates,
        sine_only=not cosines,
    )
    expected = [fourier(p, 4, resolution, coordinates, cosines) for p in points_of(shape)]
    grid = positions.grid(shape)
    assert grid.shape == (1, math.prod(shape), positions.width)
    np.testing.assert_allclose(grid[0], expected, atol=1e-5)


def test_fourier_points_equal_the_grid():
    positions = FourierPositions(num_bands=5, resolution=(6, 8))
    points = jnp.array(list(points_of((6, 8))))
    np.testing.assert_allclose(positions.at(points), positions.grid((6, 8))[0], atol=1e-5)
    batch = points.reshape(2, 24, 2)
    np.testing.assert_allclose(
        positions.at(batch), positions.grid((6, 8)).reshape(2, 24, -1), atol=1e-5
    )


def test_fourier_frequencies_end_at_half_the_resolution():
    """At the Nyquist frequency, adjacent samples are half a period apart."""
    positions = FourierPositions(num_bands=3, resolution=(16,), concatenate_coordinates=False)
    features = positions.at(jnp.array([[0.0], [2 / 16], [2.0]]))
    np.testing.assert_allclose(features[:, 5], [1, -1, 1], atol=1e-5)
    np.testing.assert_allclose(features[:, 3], np.cos(np.pi * np.array([0, 2 / 16, 2])), atol=1e-5)


def test_published_width_of_image_positions():
    assert FourierPositions(num_bands=64, resolution=(224, 224)).width == 258


@pytest.mark.parametrize("shape", [(4,), (4, 4, 4)])
def test_fourier_of_other_axes(shape):
    positions = FourierPositions(num_bands=2, resolution=(4, 4))
    with pytest.raises(UserError, match=f"2 axes.*points of {len(shape)} axes"):
        positions.grid(shape)
    with pytest.raises(UserError, match="one number per axis"):
        positions.at(jnp.zeros((3, len(shape))))


def test_subsampled_coordinates():
    shape = (3, 4, 5)
    indices = jnp.array(np.random.default_rng(0).integers(0, 60, size=(2, 7)))
    expected = [
        [[-1 + 2 * (i // 20) / 3, -1 + 2 * (i // 5 % 4) / 4, -1 + 2 * (i % 5) / 5] for i in row]
        for row in indices.tolist()
    ]
    np.testing.assert_allclose(subsampled_coordinates(indices, shape), expected, atol=1e-6)


def run(function):
    transformed = hk.without_apply_rng(hk.transform(function))
    params = transformed.init(jax.random.key(0))
    return params, transformed.apply(params)


def test_learned_positions():
    points = jnp.array([[3, 0], [5, 5]])

    def both():
        positions = LearnedPositions((2, 3), 4)
        return positions.grid((2, 3)), positions.at(points)

    params, (grid, chosen) = run(both)
    embeddings = params["positions"]["embeddings"]
    assert embeddings.shape == (6, 4)
    assert 0 < np.abs(embeddings).max() <= 0.05
    np.testing.assert_array_equal(grid, embeddings[None])
    np.testing.assert_array_equal(chosen[1, 0], embeddings[5])
    np.testing.assert_array_equal(chosen[0], embeddings[np.array([3, 0])])


def test_learned_positions_have_a_fixed_size():
    with pytest.raises(UserError, match=r"for \(2, 3\) inputs, not \(3, 3\)"):
        run(lambda: LearnedPositions((2, 3), 4).grid((3, 3)))


def test_projected_positions():
    fourier_positions = FourierPositions(num_bands=2, resolution=(3, 4))

    def both():
        positions = ProjectedPositions(fourier_positions, 5)
        return positions.grid((3, 4)), positions.at(jnp.zeros((1, 2, 2)))

    params, (grid, chosen) = run(both)
    layer = params["project_positions"]
    expected = fourier_positions.grid((3, 4)) @ layer["w"] + layer["b"]
    np.testing.assert_allclose(grid, expected, atol=1e-5)
    assert chosen.shape == (1, 2, 5)
