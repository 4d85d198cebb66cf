"""Outlines of surfaces: polygons and smooth closed curves, with holes."""

import math

import cv2
import numpy as np
from jaxtyping import Float32, UInt8
from scipy.interpolate import CubicSpline

_CORNERS = (3, 12)
_RADII = (0.4, 1.0)
_MAX_ELONGATION = 3.0
_POINTS_PER_SIDE = 12
_MAX_HOLES = 3
_HOLE_SIZES = (0.1, 0.3)  # relative to the outline's size
_HOLE_DISTANCE = 0.3
_SUBPIXEL_BITS = 6


def draw_outline(size: float, smooth: bool, rng: np.random.Generator) -> Float32[np.ndarray, "P 2"]:
    """A random closed curve about the origin, in pixels: a polygon or a smooth curve.

    It is at most about `size` long, and up to 3 times as long as wide. Polygons have points along
    their sides too, so that they follow a surface that bends.
    """
    curve = _unit_curve(smooth, rng)
    curve[:, 1] /= math.exp(rng.uniform(0, math.log(_MAX_ELONGATION)))
    angle = rng.uniform(0, 2 * math.pi)
    cos, sin = math.cos(angle), math.sin(angle)
    return (size / 2 * curve @ np.array([[cos, sin], [-sin, cos]])).astype(np.float32)


def draw_holes(
    outline: Float32[np.ndarray, "P 2"], rng: np.random.Generator
) -> list[Float32[np.ndarray, "P 2"]]:
    """One to three random smaller curves near the centre of an outline."""
    size = 2 * np.linalg.norm(outline, axis=1).max()
    holes = []
    for _ in range(rng.integers(1, _MAX_HOLES + 1)):
        hole = draw_outline(size * rng.uniform(*_HOLE_SIZES), rng.random() < 0.5, rng)
        holes.append(hole + _HOLE_DISTANCE * rng.random() * outline[rng.integers(len(outline))])
    return holes


def fill(
    outline: Float32[np.ndarray, "P 2"],
    holes: list[Float32[np.ndarray, "P 2"]],
    size: tuple[int, int],
) -> UInt8[np.ndarray, "H W"]:
    """A mask of `size` = (height, width): 255 inside the outline, 0 in holes, with smooth edges.

    Args:
        outline: in pixels of the mask, with (0, 0) the centre of the first pixel.
        holes: likewise.
        size: of the mask.
    """
    picture = np.zeros(size, np.uint8)
    for curve, value in [(outline, 255), *((hole, 0) for hole in holes)]:
        corners = np.rint(curve * 2**_SUBPIXEL_BITS).astype(np.int32)
        cv2.fillPoly(picture, [corners], value, cv2.LINE_AA, _SUBPIXEL_BITS)
    return picture


def _unit_curve(smooth: bool, rng: np.random.Generator) -> np.ndarray:
    """A star-shaped curve, float [P, 2], in the unit circle or, if smooth, slightly beyond it."""
    count = rng.integers(_CORNERS[0], _CORNERS[1] + 1)
    turns = (np.arange(count) + rng.uniform(-0.35, 0.35, count)) / count
    radii = rng.uniform(*_RADII, count)
    corners = radii[:, None] * np.stack([np.cos(2 * np.pi * turns), np.sin(2 * np.pi * turns)], 1)
    closed = np.concatenate([corners, corners[:1]])
    places = np.arange(count * _POINTS_PER_SIDE) / _POINTS_PER_SIDE
    if smooth:
        return CubicSpline(np.arange(count + 1), closed, bc_type="periodic")(places)
    return np.stack([np.interp(places, np.arange(count + 1), closed[:, i]) for i in (0, 1)], 1)
