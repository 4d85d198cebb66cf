"""Crops of encoded images, decoded at the lowest resolution that suffices."""

import contextlib
import io
import math
from collections.abc import Callable, Iterator

import numpy as np
from jaxtyping import UInt8
from PIL import ExifTags, Image, ImageOps, TiffImagePlugin, UnidentifiedImageError

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
    """A random crop (Szegedy et al. 2015, "Going deeper with convolutions", section 6).

    Its share of the image's area is uniform in `area` and its aspect ratio (width / height)
    log-uniform in `aspect`. If ten draws do not fit into the image, the largest central box with
    the nearest allowed aspect ratio is used.
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
    """The largest central box with aspect ratio width / height, its sides multiplied by `fraction`.

    The usual evaluation crop of 224-pixel classifiers has fraction 224 / 256.
    """
    box_width = fraction * min(width, height * aspect)
    box_height = box_width / aspect
    left, upper = (width - box_width) / 2, (height - box_height) / 2
    return left, upper, left + box_width, upper + box_height


def central_square(width: int, height: int, *, fraction: float) -> Box:
    """The central square in whole pixels, rounded down, as transformers' Perceiver crops it."""
    side = max(int(fraction * min(width, height)), 1)
    left, upper = (width - side) // 2, (height - side) // 2
    return left, upper, left + side, upper + side


@contextlib.contextmanager
def decoding(name: object) -> Iterator[None]:
    """Turns anything that Pillow raises within the context into a UserError naming the image."""
    try:
        yield
    except UnidentifiedImageError as error:
        raise UserError(
            f"Cannot decode image {name}: it is empty, damaged, or in a format that Pillow does "
            "not know. Replace the file, or leave it out."
        ) from error
    # On damaged files, its plugins may raise anything: RuntimeError, struct.error, IndexError ...
    except Exception as error:
        raise UserError(
            f"Cannot decode image {name}: {error}. Replace the file, or leave it out."
        ) from error


def as_rgb(image: Image.Image) -> Image.Image:
    """An image of any mode as 8-bit RGB: transparency over white, wider values scaled to 8 bits.

    Raises ValueError if it is unclear which value is white.
    """
    if image.mode.startswith("I") or image.mode == "F":
        return Image.fromarray(_eight_bits(image)).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def _eight_bits(image: Image.Image) -> UInt8[np.ndarray, "H W"]:
    """Scales 16-bit, 32-bit or float grey values, which Pillow would clip at 255, to 8 bits.

    Floats range from 0 to 1. 32-bit integers hold 8-bit values if none is above 255, else 16-bit
    ones. In TIFF, white follows from BitsPerSample; MaxSampleValue is by definition (TIFF 6.0,
    section 8) a statistic, so that 12-bit values stored as 16 bits are dark.
    """
    pixels = np.asarray(image)
    low, high = pixels.min(), pixels.max()
    if image.mode == "F":
        kind, white = "floats", 1
    elif isinstance(image, TiffImagePlugin.TiffImageFile) and image.mode.startswith("I;16"):
        kind, white = "integers", 2 ** image.tag_v2[TiffImagePlugin.BITSPERSAMPLE][0] - 1
    # Pillow opens some 16-bit files, such as PGM, as 32-bit ones.
    elif image.mode.startswith("I;16") or image.format in ("PPM", "PNG") or high > 255:
        kind, white = "integers", 65_535
    else:
        kind, white = "integers", 255
    if not (low >= 0 and high <= white):  # nor NaN
        raise ValueError(
            f"its {kind} range from {low:g} to {high:g}, not from 0 (black) to at most {white} "
            "(white); save it with 8 or 16 bits"
        )
    scaled = np.rint(255 * pixels) if image.mode == "F" else pixels // (white // 255)
    return scaled.astype(np.uint8)


def decode_crop(
    data: bytes,
    *,
    name: str,
    choose_box: Callable[[int, int], Box],
    size: tuple[int, int],
    resample: Image.Resampling = Image.Resampling.BILINEAR,
    crop_first: bool = False,
) -> Image.Image:
    """Decodes a box of an image as RGB, resized to size = (height, width) with anti-aliasing.

    A JPEG is decoded at the smallest of the scales 1, 1/2, 1/4, 1/8 that still has the resolution
    of the result, so that the inverse cosine transform does most of the downscaling. Images are
    first turned upright according to their EXIF orientation.

    Args:
        data: an encoded file in any format that Pillow reads.
        name: of the image, for error messages.
        choose_box: maps (width, height) of the image to a box.
        size: of the result.
        resample: how pixels are interpolated.
        crop_first: as of `resize_box`, and at full resolution.

    Raises UserError when the image cannot be decoded.
    """
    with decoding(name):
        image = Image.open(io.BytesIO(data))
        orientation = _orientation(image)
        # From 5 on, rows and columns are swapped.
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
    # Rounding can make a box that covers the whole image 1e-14 pixels too large.
    inside = (max(left, 0), max(upper, 0), min(right, image.width), min(lower, image.height))
    return image.resize(size[::-1], resample, box=inside)


def _orientation(image: Image.Image) -> int:
    """EXIF orientation, from 1 to 8; 1 is upright."""
    if image.format == "TIFF":
        return 1  # Pillow rotates these itself.
    orientation = image.getexif().get(ExifTags.Base.Orientation)
    return orientation if orientation in range(1, 9) else 1
