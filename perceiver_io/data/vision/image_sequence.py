"""Folders of images as the frames of a video."""

import itertools
import math
import pathlib
import re
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps

from perceiver_io.data.pipeline.sources import left_out_clause
from perceiver_io.data.vision import crop
from perceiver_io.data.vision.image_files import list_image_files
from perceiver_io.errors import UserError


def list_images(folder: pathlib.Path) -> list[pathlib.Path]:
    """The images of a folder in the natural order of their names: frame2 before frame10.

    Raises UserError where there are none.
    """
    found = list_image_files(folder)
    if not found.files:
        raise UserError(
            f"The folder {folder} has no images, such as frame_0001.png"
            f"{left_out_clause(found.left_out)}."
        )
    return sorted(map(pathlib.Path, found.files), key=lambda path: _by_number(path.name))


def list_frames(folder: pathlib.Path) -> list[pathlib.Path]:
    """As `list_images`, but checks that no image of a numbered sequence is missing.

    A sequence is numbered if the names differ in one number only and at least half of its values
    occur; other numbers may be times. Three or more images may be numbered in equal steps, such as
    every tenth.

    Raises UserError naming a missing image, and where there are no images.
    """
    images = list_images(folder)
    missing = _missing([path.name for path in images])
    if missing:
        others = f" and {len(missing) - 1} more are" if missing[1:] else " is"
        raise UserError(
            f"The folder {folder} has images from {images[0].name} to {images[-1].name}, but "
            f"{missing[0]}{others} missing: restore what is missing, or renumber the images."
        )
    return images


def _missing(names: Sequence[str]) -> list[str]:
    """The names missing from a numbered sequence; none if the names are not numbered."""
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
    width = min(map(len, digits))  # smaller than for larger numbers if not zero-padded
    absent = sorted(set(range(numbers[0], numbers[-1], step)) - set(numbers))
    return [f"{before}{number:0{width}}{after}" for number in absent]


def _by_number(name: str) -> list[tuple[int, str]]:
    """Sort key for the natural order, in which 2 comes before 10."""
    return [(int(part) if part.isdecimal() else -1, part) for part in _parts(name)]


def _parts(name: str) -> list[str]:
    """Alternating text and numbers, beginning with text."""
    return re.split(r"(\d+)", name)


def read_image(path: pathlib.Path) -> UInt8[np.ndarray, "H W 3"]:
    """An image of any format as upright RGB. Raises UserError when it cannot be read."""
    with crop.decoding(path), Image.open(path) as image:
        ImageOps.exif_transpose(image, in_place=True)
        return np.asarray(crop.as_rgb(image))


def read_images(paths: Iterable[pathlib.Path]) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
    """Images as upright RGB. Raises UserError on a damaged image and on differing sizes."""
    shape = None
    for path in paths:
        frame = read_image(path)
        shape = shape or frame.shape
        if frame.shape != shape:
            raise UserError(
                f"{path} has {frame.shape[1]}x{frame.shape[0]} pixels and the images before it "
                f"{shape[1]}x{shape[0]}; all must have the same size: resize or crop it."
            )
        yield frame
