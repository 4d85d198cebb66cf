"""Motion of a surface through both frames, with an exact inverse.

A surface point has fixed coordinates, in pixels relative to the surface's centre, and a position in
the image at every time: the frames are at times -1/2 and 1/2, and at time 0 a surface is as it was
drawn. The position is given by waves followed by an affine map. A wave moves points along a
direction, by a sine of their coordinate perpendicular to it. Such a shear is undone exactly by the
same wave with the opposite sign and cannot fold the surface; waves in several directions make a
smooth non-rigid motion. Hence flow has a closed form in both directions, exact up to float32
rounding (1e-4 pixels).
"""

import dataclasses
import math
from typing import Annotated, NamedTuple

import numpy as np
from jaxtyping import Float32

from perceiver_io.config.annotations import within

_NUM_WAVES = 4
_WAVELENGTHS = (0.5, 2.0)  # as a multiple of the surface's size


class Points(NamedTuple):
    """Image positions or surface coordinates, in pixels; the two arrays broadcast to one shape.

    Attributes:
        x: to the right.
        y: down.
    """

    x: Float32[np.ndarray, "*S"]
    y: Float32[np.ndarray, "*S"]


class _Wave(NamedTuple):
    """Moves points along `direction` (x, y) by a sine of their coordinate perpendicular to it.

    The frequency is in radians per pixel, the amplitude in pixels at time 1.
    """

    direction: tuple[float, float]
    frequency: float
    phase: float
    amplitude: float

    def moved(self, points: Points, time: float) -> Points:
        x, y = self.direction
        across = (-y * self.frequency) * points.x + (x * self.frequency) * points.y
        across += self.phase
        shift = np.sin(across, out=across)
        return Points(
            points.x + (time * self.amplitude * x) * shift,
            points.y + (time * self.amplitude * y) * shift,
        )


@dataclasses.dataclass(frozen=True)
class Motion:
    """The position of a surface at each time.

    Attributes:
        centre: (x, y) at time 0, in pixels of the frame.
        translation: (x, y) from the first frame to the second, in pixels.
        rotation: likewise, in radians, clockwise as seen in the image.
        log_scale: logarithm of the enlargement from the first frame to the second.
        shear: likewise: x moves by this fraction of y.
        waves: the non-rigid motion.
    """

    centre: tuple[float, float]
    translation: tuple[float, float]
    rotation: float
    log_scale: float
    shear: float
    waves: tuple[_Wave, ...]

    def to_frame(self, surface: Points, time: float) -> Points:
        """Image positions of points of the surface."""
        for wave in self.waves:
            surface = wave.moved(surface, time)
        (a, b), (c, d) = self._matrix(time).tolist()
        x, y = self._position(time)
        return Points(
            a * surface.x + b * surface.y + x,
            c * surface.x + d * surface.y + y,
        )

    def to_surface(self, places: Points, time: float) -> Points:
        """Points of the surface at positions in the image; the inverse of `to_frame`."""
        (a, b), (c, d) = np.linalg.inv(self._matrix(time)).tolist()
        x, y = self._position(time)
        # Sums of a row and a column if the positions are a grid.
        surface = Points(
            a * (places.x - x) + b * (places.y - y),
            c * (places.x - x) + d * (places.y - y),
        )
        for wave in reversed(self.waves):
            surface = wave.moved(surface, -time)
        return surface

    def _matrix(self, time: float) -> np.ndarray:
        angle, scale = time * self.rotation, math.exp(time * self.log_scale)
        cos, sin = math.cos(angle), math.sin(angle)
        slant = np.array([[1, time * self.shear], [0, 1]])
        return scale * np.array([[cos, -sin], [sin, cos]]) @ slant

    def _position(self, time: float) -> tuple[float, float]:
        (x, y), (u, v) = self.centre, self.translation
        return x + time * u, y + time * v


@dataclasses.dataclass(frozen=True, kw_only=True)
class MotionSettings:
    """How far surfaces move between the frames. Small motions are more frequent than large ones.

    The length of the translation has an exponential distribution truncated at the maximum; the
    others have triangular distributions about zero. Rotation, scaling, shear and waves are relative
    to the surface's centre, so they add displacements that grow with the surface.

    Attributes:
        mean_translation: mean of the exponential distribution before truncation, in pixels.
        max_translation: in pixels.
        max_rotation: in either direction, in degrees.
        max_scale: greatest factor by which a surface is enlarged or reduced.
        max_shear: greatest fraction of y by which x moves.
        max_strain: greatest strain by all waves together: with strain 0.1, waves as long as the
            surface move its points by up to 0.016 of its size.
    """

    mean_translation: Annotated[float, within(1e-3, 1000)]
    max_translation: Annotated[float, within(0, 1000)]
    max_rotation: Annotated[float, within(0, 90)]
    max_scale: Annotated[float, within(1, 2)]
    max_shear: Annotated[float, within(0, 1)]
    max_strain: Annotated[float, within(0, 1)]


def draw_motion(
    settings: MotionSettings, centre: tuple[float, float], size: float, rng: np.random.Generator
) -> Motion:
    """A random motion of a surface of `size` pixels whose centre is at `centre` at time 0.

    The settings only scale the random numbers, which are the same for all settings.
    """
    share = 1 - math.exp(-settings.max_translation / settings.mean_translation)
    length = -settings.mean_translation * math.log1p(-share * rng.random())
    direction = rng.uniform(0, 2 * math.pi)
    angle, growth, shear = rng.triangular(-1, 0, 1, size=3).tolist()
    waves = tuple(
        _draw_wave(settings.max_strain / _NUM_WAVES, size, rng) for _ in range(_NUM_WAVES)
    )
    return Motion(
        centre=centre,
        translation=(length * math.cos(direction), length * math.sin(direction)),
        rotation=angle * math.radians(settings.max_rotation),
        log_scale=growth * math.log(settings.max_scale),
        shear=shear * settings.max_shear,
        waves=waves if settings.max_strain else (),
    )


def _draw_wave(max_strain: float, size: float, rng: np.random.Generator) -> _Wave:
    direction, phase = rng.uniform(0, 2 * math.pi, size=2).tolist()
    frequency = 2 * math.pi / (size * rng.uniform(*_WAVELENGTHS))
    return _Wave(
        direction=(math.cos(direction), math.sin(direction)),
        frequency=frequency,
        phase=phase,
        amplitude=rng.uniform(-max_strain, max_strain) / frequency,
    )
