"""Which files in a folder are images: one rule for training and prediction."""

import functools
import os
import stat
from collections.abc import Mapping
from typing import NamedTuple

from PIL import Image

from perceiver_io.data.pipeline.sources import LeftOut
from perceiver_io.errors import UserError

# Pillow recognises these, but decodes them only with the help of other programs, or not at all.
_NOT_DECODED = frozenset(("BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"))


class ImageFiles(NamedTuple):
    """The content of a folder.

    Attributes:
        images: paths of the files with the extension of an image format, sorted by name.
        broken: those of them that cannot be images, with the reason: empty files and broken links.
            Whether the others can be decoded is not known.
        left_out: paths of everything else, by kind: hidden files, folders, files with other
            extensions.
    """

    images: tuple[str, ...]
    broken: Mapping[str, str]
    left_out: LeftOut


@functools.cache
def image_suffixes() -> frozenset[str]:
    """The lower-case extensions of the formats that Pillow can decode."""
    return frozenset(
        suffix
        for suffix, name in Image.registered_extensions().items()
        if name in Image.OPEN and name not in _NOT_DECODED
    )


def list_image_files(folder: str | os.PathLike[str]) -> ImageFiles:
    """The images and other entries of a folder. Raises UserError if it cannot be read."""
    images, broken, left_out = [], {}, {}
    for entry in scan(folder):
        kind = _kind(entry)
        if kind is not None:
            left_out.setdefault(kind, []).append(entry.path)
            continue
        images.append(entry.path)
        defect = _defect(entry)
        if defect is not None:
            broken[entry.path] = defect
    return ImageFiles(tuple(images), broken, left_out)


def scan(folder: str | os.PathLike[str]) -> list[os.DirEntry[str]]:
    """The entries of a folder, sorted by name. Raises UserError if it cannot be read."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise UserError(f"Cannot read the folder {folder}: {error.strerror}.") from error


def is_visible_folder(entry: os.DirEntry[str]) -> bool:
    """Whether it is a folder, other than a hidden one or one that macOS adds to archives."""
    return entry.is_dir() and not _is_hidden(entry.name)


def printable(name: str) -> str:
    """A file name as text, with bytes that are not UTF-8 escaped."""
    return name.encode(errors="backslashreplace").decode()


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def _kind(entry: os.DirEntry[str]) -> str | None:
    """The kind of an entry that is not an image, else None."""
    if _is_hidden(entry.name):
        return "hidden"
    if entry.is_dir():
        return "folders"
    is_image = os.path.splitext(entry.name)[1].lower() in image_suffixes()
    return None if is_image else "other files"


def _defect(entry: os.DirEntry[str]) -> str | None:
    try:
        status = entry.stat()
    except OSError as error:
        return f"a broken link ({error.strerror})"
    if not stat.S_ISREG(status.st_mode):
        return "not a regular file"
    return None if status.st_size else "empty"
