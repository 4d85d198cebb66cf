"""Effects that change the frames but not the flow: exposure, fog, lighting and noise."""

import dataclasses
import math
from typing import Annotated

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

from perceiver_io.config.annotations import Probability, within
from perceiver_io.data.flow.rendering.textures import smooth_noise

_FOG_WAVELENGTHS = (128, 32)  # pixels
_MAX_FOG_DRIFT = 16  # pixels

Frames = tuple[Float32[np.ndarray, "H W 3"], Float32[np.ndarray, "H W 3"]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class EffectSettings:
    """How strongly frames are degraded.

    Attributes:
        blur_probability: probability of motion blur.
        max_shutter: greatest exposure time relative to the time between frames, where there is
            blur.
        fog_probability: probability of fog, which drifts independently of the surfaces.
        max_fog: greatest opacity of fog.
        lighting_probability: probability that lighting differs between the frames.
        max_lighting: greatest relative deviation of each frame's lighting from neutral: of its
            brightness, its contrast (gamma) and a gradient of each colour across it.
        max_noise: greatest standard deviation of the noise, on the scale 0 to 255.
    """

    blur_probability: Probability
    max_shutter: Annotated[float, within(0, 1)]
    fog_probability: Probability
    max_fog: Annotated[float, within(0, 1)]
    lighting_probability: Probability
    max_lighting: Annotated[float, within(0, 0.9)]
    max_noise: Annotated[float, within(0, 100)]

    def draw_shutter(self, rng: np.random.Generator) -> float:
        """A random exposure time, relative to the time between frames."""
        return _up_to(self.max_shutter, self.blur_probability, rng)


def apply_effects(
    frames: Frames, settings: EffectSettings, rng: np.random.Generator
) -> tuple[UInt8[np.ndarray, "H W 3"], UInt8[np.ndarray, "H W 3"]]:
    """Adds random fog, lighting and noise to frames of values 0 to 255, and rounds them.

    Each effect is drawn independently of the settings of the others.
    """
    fog_rng, lighting_rng, noise_rng = rng.spawn(3)
    fog = _up_to(settings.max_fog, settings.fog_probability, fog_rng)
    if fog:
        frames = _with_fog(frames, fog, fog_rng)
    lighting = _up_to(settings.max_lighting, settings.lighting_probability, lighting_rng)
    if lighting:
        frames = tuple(_with_lighting(frame, lighting, lighting_rng) for frame in frames)
    sigma = _up_to(settings.max_noise, 1, noise_rng)
    if sigma:
        frames = tuple(_with_noise(frame, sigma, noise_rng) for frame in frames)
    return tuple(np.clip(np.rint(frame), 0, 255).astype(np.uint8) for frame in frames)


def _up_to(maximum: float, probability: float, rng: np.random.Generator) -> float:
    """With the given probability a random number up to the maximum, else 0."""
    happens, share = rng.random(2).tolist()
    return maximum * share if happens < probability else 0.0


def _with_fog(frames: Frames, opacity: float, rng: np.random.Generator) -> Frames:
    height, width = frames[0].shape[:2]
    room = _MAX_FOG_DRIFT
    field = smooth_noise((height + room, width + room), _FOG_WAVELENGTHS, 0.5, rng)
    color = rng.uniform(120, 255) + rng.uniform(-15, 15, 3)

    def fogged(frame: np.ndarray) -> np.ndarray:
        top, left = rng.integers(0, room + 1, 2)
        share = opacity * field[top : top + height, left : left + width, None]
        return frame + share * (color.astype(np.float32) - frame)

    return tuple(map(fogged, frames))


def _with_lighting(
    frame: Float32[np.ndarray, "H W 3"], strength: float, rng: np.random.Generator
) -> Float32[np.ndarray, "H W 3"]:
    height, width = frame.shape[:2]
    gain, gamma = (1 + strength * rng.uniform(-1, 1, 2)).tolist()
    x = np.linspace(-1, 1, width, dtype=np.float32)[:, None]
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None, None]
    # Near a common slope, so that colours change less than brightness.
    slopes = rng.uniform(-1, 1, (2, 1)) + rng.uniform(-0.3, 0.3, (2, 3))
    slopes = (strength / math.sqrt(8) * slopes).astype(np.float32)
    light = gain * (1 + slopes[0] * x + slopes[1] * y)
    return 255 * light * cv2.pow(frame / 255, gamma)


def _with_noise(
    frame: Float32[np.ndarray, "H W 3"], sigma: float, rng: np.random.Generator
) -> Float32[np.ndarray, "H W 3"]:
    return frame + sigma * rng.standard_normal(frame.shape, np.float32)
