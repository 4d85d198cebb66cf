"""Random textures: parts of photographs, or noise, waves, spots and gradients in random colours."""

import math
from collections.abc import Callable

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

from perceiver_io.config.annotations import Size
from perceiver_io.data.flow.rendering import source_photos

Texture = UInt8[np.ndarray, "H W 3"]
_Values = Float32[np.ndarray, "H W"]  # from 0 to 1

_PHOTO_ZOOMS = (0.6, 2.0)
_TILES = (48, 128)  # side of a photograph of fruit, in pixels
_WAVELENGTHS = (5, 80)
_SHADING = (0.1, 0.4)
_FRUIT_SHARE = 0.2  # fraction of photographic textures
# In pixels, against aliasing: frames may show a texture slightly reduced, or between its pixels.
_BLUR = 0.7


def draw_texture(split: str, photo_share: float, size: Size, rng: np.random.Generator) -> Texture:
    """A random texture of `size` = (height, width).

    Args:
        split: the photographs to use.
        photo_share: probability of a photographic texture; otherwise it is procedural.
        size: of the result, in pixels.
        rng: source of all randomness.
    """
    if rng.random() < photo_share:
        draw = _fruit if rng.random() < _FRUIT_SHARE else _photo
        texture = draw(split, size, rng)
    else:
        texture = _PROCEDURAL[rng.integers(len(_PROCEDURAL))](size, rng)
    # Shading makes repetitive patterns unambiguous, and surfaces look less flat.
    finest = 2 ** int(rng.integers(1, 7))
    shading = smooth_noise(size, (128, finest), 0.6, rng)
    shading = 1 + rng.uniform(*_SHADING) * (2 * shading - 1)
    shaded = cv2.multiply(texture, cv2.merge([shading] * 3), dtype=cv2.CV_8U)
    return cv2.GaussianBlur(shaded, (0, 0), _BLUR)


def smooth_noise(
    size: Size, wavelengths: tuple[int, int], persistence: float, rng: np.random.Generator
) -> Float32[np.ndarray, "H W"]:
    """Random values from 0 to 1: a sum of octaves of noise.

    Args:
        size: (height, width).
        wavelengths: distances in pixels between independent values in the coarsest and the finest
            octave, both powers of 2.
        persistence: ratio of the amplitudes of successive octaves.
        rng: source of all randomness.
    """
    step, finest = wavelengths
    total, amplitude = None, 1.0
    while True:
        height, width = (math.ceil(side / step) for side in size)
        if total is None:
            total = np.zeros((height, width), np.float32)
        else:
            total = cv2.pyrUp(total)[:height, :width]
        if step >= finest:
            total += amplitude * (rng.random((height, width), np.float32) - 0.5)
            amplitude *= persistence
        if step == 1:
            break
        step //= 2
    deviation = max(float(total.std()), 1e-6)
    return np.clip(0.5 + total / (4 * deviation), 0, 1)


def _photo(split: str, size: Size, rng: np.random.Generator) -> Texture:
    names = source_photos.PHOTOS[split]
    photo = _turned(source_photos.photo(names[rng.integers(len(names))]), rng)
    zoom = math.exp(rng.uniform(*map(math.log, _PHOTO_ZOOMS)))
    zoom = max(zoom, *(side / whole for side, whole in zip(size, photo.shape[:2], strict=True)))
    height, width = (
        min(math.ceil(side / zoom), whole)
        for side, whole in zip(size, photo.shape[:2], strict=True)
    )
    top = rng.integers(photo.shape[0] - height + 1)
    left = rng.integers(photo.shape[1] - width + 1)
    part = _resized(photo[top : top + height, left : left + width], size)
    return _recolored(part, rng) if part.ndim == 3 else _palette(rng, ordered=True)[part]


def _fruit(split: str, size: Size, rng: np.random.Generator) -> Texture:
    """Tiled photographs of fruit."""
    photos = source_photos.fruit(split)
    side = int(rng.integers(*_TILES))
    rows, columns = (math.ceil(length / side) for length in size)

    def tile() -> Texture:
        photo = _turned(photos[rng.integers(len(photos))], rng)
        return _resized(photo, (side, side))

    wall = np.concatenate(
        [np.concatenate([tile() for _ in range(columns)], axis=1) for _ in range(rows)]
    )
    return _recolored(wall[: size[0], : size[1]], rng)


def _turned(photo: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Randomly mirrored and transposed."""
    if rng.random() < 0.3:
        photo = photo.swapaxes(0, 1)
    return photo[:, :: rng.choice((-1, 1))]


def _resized(photo: np.ndarray, size: Size) -> np.ndarray:
    shrinks = photo.shape[0] > size[0]
    flag = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    return cv2.resize(np.ascontiguousarray(photo), size[::-1], interpolation=flag)


def _recolored(pixels: Texture, rng: np.random.Generator) -> Texture:
    """Randomly changed white balance and contrast."""
    contrast = rng.uniform(0.7, 1.3)
    gains = contrast * rng.uniform(0.8, 1.2, 3)
    levels = np.arange(256)[:, None] * gains + 128 * (1 - contrast)
    return cv2.LUT(pixels, np.clip(levels, 0, 255).astype(np.uint8)[:, None])


def _palette(rng: np.random.Generator, ordered: bool = False) -> UInt8[np.ndarray, "256 3"]:
    """A gradient through two to four random colours; `ordered`: from dark to bright."""
    colors = rng.uniform(0, 255, (rng.integers(2, 5), 3))
    if ordered:
        colors = colors[np.argsort(colors.sum(axis=1))]
    # Greyish colours are more frequent in nature.
    grey = colors.mean(axis=1, keepdims=True)
    colors = grey + rng.uniform(0.2, 1) * (colors - grey)
    places = np.linspace(0, len(colors) - 1, 256)
    channels = [np.interp(places, range(len(colors)), channel) for channel in colors.T]
    return np.stack(channels, axis=1).astype(np.uint8)


def _colored(values: _Values, rng: np.random.Generator) -> Texture:
    return _palette(rng)[(255 * values).astype(np.uint8)]


def _noise(size: Size, rng: np.random.Generator) -> Texture:
    coarsest = 2 ** int(rng.integers(4, 8))
    return _colored(smooth_noise(size, (coarsest, 1), rng.uniform(0.5, 0.9), rng), rng)


def _stripes(size: Size, rng: np.random.Generator) -> Texture:
    return _colored(0.5 + 0.5 * _sharpened(_wave(size, rng.uniform(0, np.pi), rng), rng), rng)


def _checks(size: Size, rng: np.random.Generator) -> Texture:
    angle = rng.uniform(0, np.pi)
    product = _wave(size, angle, rng) * _wave(size, angle + np.pi / 2, rng)
    return _colored(0.5 + 0.5 * _sharpened(product, rng), rng)


def _wave(size: Size, angle: float, rng: np.random.Generator) -> Float32[np.ndarray, "H W"]:
    """A slightly distorted sine wave along a direction, from -1 to 1."""
    frequency = 2 * math.pi / math.exp(rng.uniform(*map(math.log, _WAVELENGTHS)))
    y, x = np.ogrid[: size[0], : size[1]]
    phase = frequency * (math.cos(angle) * x + math.sin(angle) * y)
    bend = rng.uniform(0, 6) * smooth_noise(size, (128, 128), 1, rng)
    return np.sin(phase.astype(np.float32) + bend)


def _sharpened(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.tanh(rng.uniform(0.5, 5) * values)


def _spots(size: Size, rng: np.random.Generator) -> Texture:
    """Discs and rectangles of various sizes on a gradient."""
    picture = _gradient(size, rng)
    colors = _palette(rng)
    for _ in range(rng.integers(10, 20 + size[0] * size[1] // 400)):
        color = colors[rng.integers(256)].tolist()
        x, y = (rng.random(2) * size[::-1]).astype(int).tolist()
        side = int(rng.uniform(2, 5) ** rng.uniform(1, 2))
        if rng.random() < 0.7:
            cv2.circle(picture, (x, y), side, color, cv2.FILLED, cv2.LINE_AA)
        else:
            corner = x + side + int(rng.integers(10)), y + side
            cv2.rectangle(picture, (x, y), corner, color, cv2.FILLED)
    return picture


def _gradient(size: Size, rng: np.random.Generator) -> Texture:
    """Colours that change along a direction, with grain."""
    angle = rng.uniform(0, 2 * np.pi)
    y, x = np.ogrid[: size[0], : size[1]]
    ramp = (math.cos(angle) * x + math.sin(angle) * y).astype(np.float32)
    ramp = (ramp - ramp.min()) / max(float(np.ptp(ramp)), 1)
    grain = smooth_noise(size, (16, 2), 0.8, rng) - 0.5
    return _colored(np.clip(ramp + rng.uniform(0.05, 0.3) * grain, 0, 1), rng)


_PROCEDURAL: tuple[Callable[[Size, np.random.Generator], Texture], ...] = (
    _noise,
    _noise,  # the most natural one, so twice as frequent
    _stripes,
    _checks,
    _spots,
    _gradient,
)
