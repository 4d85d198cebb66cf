"""RandAugment (Cubuk et al. 2020, arXiv:1909.13719): random image operations of a given strength.

The sixteen operations and their scales are those of the paper's ImageNet experiments. The usual
maximum of `magnitude` is 10; larger values extrapolate. Note that on these scales contrast,
brightness, colour and sharpness change least at 5, and that posterize removes fewer bits and
solarize inverts fewer pixels as the magnitude grows. Lengths, which the paper gives in pixels, are
relative to images of 224 pixels.
"""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

_GREY = (128, 128, 128)
_MAX_ROTATION = 30.0  # degrees
_MAX_SHEAR = 0.3
_MAX_TRANSLATION = 100 / 224  # as a fraction of the image side
_MAX_CUTOUT = 40 / 224  # half the side of the square, as a fraction of the image side
_MAX_SOLARIZE_ADD = 110

Operation = Callable[[Image.Image, float, np.random.Generator], Image.Image]
"""(RGB image, magnitude / 10, generator) -> RGB image."""


def rand_augment(
    image: Image.Image, *, num_layers: int, magnitude: float, rng: np.random.Generator
) -> Image.Image:
    """Applies `num_layers` operations, drawn uniformly with replacement, to an RGB image."""
    operations = tuple(OPERATIONS.values())
    for choice in rng.integers(len(operations), size=num_layers):
        image = operations[choice](image, magnitude / 10, rng)
    return image


def _signed(value: float, rng: np.random.Generator) -> float:
    return value if rng.random() < 0.5 else -value


def _affine(image: Image.Image, matrix: tuple[float, ...]) -> Image.Image:
    return image.transform(image.size, Image.Transform.AFFINE, matrix, fillcolor=_GREY)


def _auto_contrast(image: Image.Image, level: float, rng: np.random.Generator) -> Image.Image:
    return ImageOps.autocontrast(image)


def _equalize(image: Image.Image, level: float, rng: np.random.Generator) -> Image.Image:
    return ImageOps.equalize(image)


def _invert(image: Image.Image, level: float, rng: np.random.Generator) -> Image.Image:
    return ImageOps.invert(image)


def _rotate(image: Image.Image, level: float, rng: np.random.Generator) -> Image.Image:
    return image.rotate(_signed(level * _MAX_ROTATION, rng), fillcolor=_GREY)


def _posterize(image: Image.Image, level: float, rng: np.random.Generator) -> Image.Image:
    bits = min(8, max(1, int(level * 4)))  # zero bits would give a black image
    return ImageOps.posterize(image, bits)


def _solarize(image: Image.Image, level: float, rng: np.random.Generator) -> Image.Image:
    return ImageOps.solarize(image, threshold=int(level * 256))


def _solarize_add(image: Image.Image, level: float, rng: np.random.Generator) -> Image.Image:
    addition = int(level * _MAX_SOLARIZE_ADD)
    table = [min(255, value + addition) if value < 128 else value for value in range(256)]
    return image.point(table * 3)


def _enhance(enhancer: Callable[[Image.Image], ImageEnhance._Enhance]) -> Operation:
    def operation(image: Image.Image, level: float, rng: np.random.Generator) -> Image.Image:
        return enhancer(image).enhance(0.1 + 1.8 * level)

    return operation


def _shear_x(image: Image.Image, level: float, rng: np.random.Generator) -> Image.Image:
    return _affine(image, (1, _signed(level * _MAX_SHEAR, rng), 0, 0, 1, 0))


def _shear_y(image: Image.Image, level: float, rng: np.random.Generator) -> Image.Image:
    return _affine(image, (1, 0, 0, _signed(level * _MAX_SHEAR, rng), 1, 0))


def _translate_x(image: Image.Image, level: float, rng: np.random.Generator) -> Image.Image:
    return _affine(image, (1, 0, _signed(level * _MAX_TRANSLATION, rng) * image.width, 0, 1, 0))


def _translate_y(image: Image.Image, level: float, rng: np.random.Generator) -> Image.Image:
    return _affine(image, (1, 0, 0, 0, 1, _signed(level * _MAX_TRANSLATION, rng) * image.height))


def _cutout(image: Image.Image, level: float, rng: np.random.Generator) -> Image.Image:
    width, height = image.size
    half_width, half_height = (
        round(level * _MAX_CUTOUT * width),
        round(level * _MAX_CUTOUT * height),
    )
    x, y = int(rng.integers(width)), int(rng.integers(height))
    image = image.copy()
    image.paste(_GREY, (x - half_width, y - half_height, x + half_width, y + half_height))
    return image


OPERATIONS: dict[str, Operation] = {
    "auto_contrast": _auto_contrast,
    "equalize": _equalize,
    "invert": _invert,
    "rotate": _rotate,
    "posterize": _posterize,
    "solarize": _solarize,
    "solarize_add": _solarize_add,
    "color": _enhance(ImageEnhance.Color),
    "contrast": _enhance(ImageEnhance.Contrast),
    "brightness": _enhance(ImageEnhance.Brightness),
    "sharpness": _enhance(ImageEnhance.Sharpness),
    "shear_x": _shear_x,
    "shear_y": _shear_y,
    "translate_x": _translate_x,
    "translate_y": _translate_y,
    "cutout": _cutout,
}
