"""Which files in a folder are examples: one rule for training and prediction."""

import os
import stat
from collections.abc import Collection, Mapping
from typing import NamedTuple

from perceiver_io.data.pipeline.sources import LeftOut
from perceiver_io.errors import UserError


class FoundFiles(NamedTuple):
    """The content of a folder.

    Attributes:
        files: paths of the files with the wanted extensions, sorted by name.
        broken: those of them that cannot be read, with the reason: empty files and broken links.
            Whether the others can be decoded is not known.
        left_out: paths of everything else, by kind: hidden files, folders, files with other
            extensions.
    """

    files: tuple[str, ...]
    broken: Mapping[str, str]
    left_out: LeftOut


def list_files(folder: str | os.PathLike[str], suffixes: Collection[str]) -> FoundFiles:
    """The files with lower-case extensions in `suffixes`, and other entries of a folder.

    Raises UserError if it cannot be read.
    """
    files, broken, left_out = [], {}, {}
    for entry in scan(folder):
        kind = _kind(entry, suffixes)
        if kind is not None:
            left_out.setdefault(kind, []).append(entry.path)
            continue
        files.append(entry.path)
        defect = _defect(entry)
        if defect is not None:
            broken[entry.path] = defect
    return FoundFiles(tuple(files), broken, left_out)


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


def _kind(entry: os.DirEntry[str], suffixes: Collection[str]) -> str | None:
    """The kind of an entry that is not an example, else None."""
    if _is_hidden(entry.name):
        return "hidden"
    if entry.is_dir():
        return "folders"
    is_wanted = os.path.splitext(entry.name)[1].lower() in suffixes
    return None if is_wanted else "other files"


def _defect(entry: os.DirEntry[str]) -> str | None:
    try:
        status = entry.stat()
    except OSError as error:
        return f"a broken link ({error.strerror})"
    if not stat.S_ISREG(status.st_mode):
        return "not a regular file"
    return None if status.st_size else "empty"
