"""From an encoded image to a crop of a given size, decoded at the least resolution that serves."""

import io
import math
from collections.abc import Callable

import numpy as np
from PIL import ExifTags, Image, ImageOps

from perceiver_io.errors import UserError

Box = tuple[float, float, float, float]
"""Left, upper, right, lower edge in pixels."""

_ATTEMPTS = 10


def random_box(
    width: int,
    height: int,
    *,
    area: tuple[float, float],
    aspect: tuple[float, float],
    rng: np.random.Generator,
) -> Box:
    """A random part of an image (Szegedy et al. 2015, section 6, "Going deeper with convolutions").

    Its share of the image's area is uniform in `area` and its aspect ratio (width / height)
    log-uniform in `aspect`. Where ten draws do not fit into the image, the largest central box with
    the nearest allowed aspect ratio.
    """
    for _ in range(_ATTEMPTS):
        pixels = rng.uniform(*area) * width * height
        ratio = math.exp(rng.uniform(math.log(aspect[0]), math.log(aspect[1])))
        box_width, box_height = round(math.sqrt(pixels * ratio)), round(math.sqrt(pixels / ratio))
        if 0 < box_width <= width and 0 < box_height <= height:
            left = int(rng.integers(width - box_width + 1))
            upper = int(rng.integers(height - box_height + 1))
            return left, upper, left + box_width, upper + box_height
    return central_box(width, height, fraction=1.0, aspect=np.clip(width / height, *aspect))


def central_box(width: int, height: int, *, fraction: float, aspect: float) -> Box:
    """The largest central box of the aspect ratio width / height, each side then times `fraction`.

    Fraction 224 / 256 is the usual evaluation crop of 224-pixel classifiers.
    """
    box_width = fraction * min(width, height * aspect)
    box_height = box_width / aspect
    left, upper = (width - box_width) / 2, (height - box_height) / 2
    return left, upper, left + box_width, upper + box_height


def central_square(width: int, height: int, *, fraction: float) -> Box:
    """The central square of whole pixels, rounded down, that transformers' Perceiver cuts out."""
    side = max(int(fraction * min(width, height)), 1)
    left, upper = (width - side) // 2, (height - side) // 2
    return left, upper, left + side, upper + side


def as_rgb(image: Image.Image) -> Image.Image:
    """An image of any mode as 8-bit RGB: transparent parts on white, 16 bits scaled to 8."""
    if image.mode.startswith("I"):
        # Pillow would cut off at 255 whatever is brighter.
        return Image.fromarray((np.asarray(image) // 257).clip(0, 255).astype(np.uint8)).convert(
            "RGB"
        )
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def decode_crop(
    data: bytes,
    *,
    name: str,
    choose_box: Callable[[int, int], Box],
    size: tuple[int, int],
    resample: Image.Resampling = Image.Resampling.BILINEAR,
    crop_first: bool = False,
) -> Image.Image:
    """Decodes a box of an image, resized to size = (height, width) with anti-aliasing, as RGB.

    A JPEG is decoded at the smallest of the scales 1, 1/2, 1/4, 1/8 that has no fewer pixels than
    the result needs: the inverse cosine transform then does most of the down-scaling. Photographs
    that a camera marks as lying on their side (EXIF) are turned upright first.

    Args:
        data: an encoded file, of any format that Pillow reads.
        name: what to call the image in an error.
        choose_box: box from (width, height) of the image.
        size: of the result.
        resample: how pixels are interpolated.
        crop_first: as of `resize_box`, and at full resolution.

    Raises UserError when the image cannot be decoded.
    """
    try:
        image = Image.open(io.BytesIO(data))
        orientation = _orientation(image)
        # From 5 on, rows of the file are columns of the picture.
        turn = slice(None, None, -1 if orientation >= 5 else 1)
        full_width, full_height = image.size[turn]
        left, upper, right, lower = choose_box(full_width, full_height)
        height, width = size
        wanted = full_width * width / (right - left), full_height * height / (lower - upper)
        if not crop_first:
            image.draft("RGB", tuple(map(math.ceil, wanted[turn])))
        if orientation != 1:
            ImageOps.exif_transpose(image, in_place=True)
        image = as_rgb(image)
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise UserError(
            f"Cannot decode image {name} ({len(data)} bytes): {error}. Replace the file, or remove "
            "it from the dataset."
        ) from error
    scale_x, scale_y = image.width / full_width, image.height / full_height
    box = (left * scale_x, upper * scale_y, right * scale_x, lower * scale_y)
    return resize_box(image, box, size, resample, crop_first)


def resize_box(
    image: Image.Image,
    box: Box,
    size: tuple[int, int],
    resample: Image.Resampling,
    crop_first: bool = False,
) -> Image.Image:
    """A box of an image, resized to size = (height, width) with anti-aliasing.

    At the edges of the box, pixels beside it count too. With `crop_first`, for boxes of whole
    pixels, they do not.
    """
    if crop_first:
        return image.crop(tuple(map(round, box))).resize(size[::-1], resample)
    left, upper, right, lower = box
    # A box as large as the image is rounded to one that is larger, by 1e-14 of a pixel.
    inside = (max(left, 0), max(upper, 0), min(right, image.width), min(lower, image.height))
    return image.resize(size[::-1], resample, box=inside)


def _orientation(image: Image.Image) -> int:
    """How the picture lies in the file, from 1 to 8 as EXIF numbers it; 1 is upright."""
    if image.format == "TIFF":
        return 1  # Pillow turns these itself.
    orientation = image.getexif().get(ExifTags.Base.Orientation)
    return orientation if orientation in range(1, 9) else 1
