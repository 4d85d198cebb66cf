"""Frames of a video as a folder of images."""

import itertools
import math
import pathlib
import re
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps

from perceiver_io.data.vision import crop
from perceiver_io.errors import UserError


def list_images(folder: pathlib.Path) -> list[pathlib.Path]:
    """The images of a folder by name, numbers in names by value: frame2 before frame10.

    Raises UserError where there are none.
    """
    # Some formats, such as PDF, can only be written.
    suffixes = {x for x, name in Image.registered_extensions().items() if name in Image.OPEN}
    images = [
        path
        for path in folder.iterdir()
        if path.suffix.lower() in suffixes and not path.name.startswith(".")
    ]
    if not images:
        raise UserError(f"The folder {folder} has no images, such as frame_0001.png.")
    return sorted(images, key=lambda path: _by_number(path.name))


def list_frames(folder: pathlib.Path) -> list[pathlib.Path]:
    """As `list_images`, and none is missing between two where the names count the images.

    They do where they differ in one number only, and at least half of its values are there; others
    may be times. A count may go in equal steps, such as every tenth, from three images on.

    Raises UserError naming a missing image, and where there are none.
    """
    images = list_images(folder)
    missing = _missing([path.name for path in images])
    if missing:
        others = f" and {len(missing) - 1} more are" if missing[1:] else " is"
        raise UserError(
            f"The folder {folder} has images from {images[0].name} to {images[-1].name}, but "
            f"{missing[0]}{others} missing: put back what is missing, or number the images anew."
        )
    return images


def _missing(names: Sequence[str]) -> list[str]:
    """The names that a count leaves out; none if the names do not count."""
    parts = list(map(_parts, names))
    if len(set(map(len, parts))) > 1:
        return []
    varying = [i for i, column in enumerate(zip(*parts, strict=True)) if len(set(column)) > 1]
    if len(varying) != 1 or varying[0] % 2 == 0:
        return []
    (place,) = varying
    digits = [part[place] for part in parts]
    numbers = sorted(set(map(int, digits)))
    steps = [after - before for before, after in itertools.pairwise(numbers)]
    step = math.gcd(*steps) if len(steps) > 1 else 1
    if (numbers[-1] - numbers[0]) // step + 1 > 2 * len(numbers):
        return []
    before, after = "".join(parts[0][:place]), "".join(parts[0][place + 1 :])
    width = min(map(len, digits))  # less than that of larger numbers where zeros do not lead
    absent = sorted(set(range(numbers[0], numbers[-1], step)) - set(numbers))
    return [f"{before}{number:0{width}}{after}" for number in absent]


def _by_number(name: str) -> list[tuple[int, str]]:
    """Sorting key by which 2 comes before 10."""
    return [(int(part) if part.isdecimal() else -1, part) for part in _parts(name)]


def _parts(name: str) -> list[str]:
    """Text and numbers in turn, text first."""
    return re.split(r"(\d+)", name)


def read_image(path: pathlib.Path) -> UInt8[np.ndarray, "H W 3"]:
    """An image of any kind, RGB, upright. Raises UserError when it cannot be read."""
    try:
        with Image.open(path) as image:
            return np.asarray(crop.as_rgb(ImageOps.exif_transpose(image)))
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise UserError(f"Cannot decode image {path}: {error}") from error


def read_images(paths: Iterable[pathlib.Path]) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
    """Images one by one, RGB, upright. Raises UserError on a damaged one and on another size."""
    shape = None
    for path in paths:
        frame = read_image(path)
        shape = shape or frame.shape
        if frame.shape != shape:
            raise UserError(
                f"{path} has {frame.shape[1]}x{frame.shape[0]} pixels and the images before it "
                f"{shape[1]}x{shape[0]}; all must have one size: resize or crop it."
            )
        yield frame
