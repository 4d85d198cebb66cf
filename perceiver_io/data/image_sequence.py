"""Frames of a film as a folder of images."""

import pathlib
import re
from collections.abc import Iterable, Iterator

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps

from perceiver_io.data import crop
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


def _by_number(name: str) -> list[tuple[int, str]]:
    """Sorting key by which 2 comes before 10."""
    return [(int(part) if part.isdecimal() else -1, part) for part in re.split(r"(\d+)", name)]


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
                f"{shape[1]}x{shape[0]}; all images of a folder must have one size."
            )
        yield frame
