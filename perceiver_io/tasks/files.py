"""Input files of predictions, and names and folders of their output files."""

import sys
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from perceiver_io.data.pipeline.sources import left_out_clause
from perceiver_io.data.vision.image_files import list_image_files
from perceiver_io.data.vision.image_sequence import list_images
from perceiver_io.errors import UserError
from perceiver_io.progress import say


def create_folder(path: str | Path) -> Path:
    """Creates the folder if needed. Raises UserError if it is not writable."""
    folder = Path(path).expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(
            f"--output={path} is not a writable folder ({error.strerror}): give another."
        ) from error
    return folder


def existing(inputs: Iterable[str | Path]) -> list[Path]:
    """The inputs as paths. Raises UserError for one that does not exist."""
    paths = [Path(name).expanduser() for name in inputs]
    for path in paths:
        if not path.exists():
            raise UserError(f"{path}: there is no such file or folder.")
    return paths


def images_of(inputs: Iterable[str | Path]) -> list[Path]:
    """The images among the inputs, including those in folders.

    Raises UserError for an input that is missing, and for a folder without images.
    """
    images = []
    for path in existing(inputs):
        if path.is_dir():
            tell_listing(path)
        images += list_images(path) if path.is_dir() else [path]
    return images


def readable(
    paths: Sequence[Path],
    prepare: Callable[[Path], np.ndarray],
    required: Collection[Path],
    unreadable: list[str],
) -> Iterator[tuple[int, np.ndarray]]:
    """Index and prepared content of each readable file; the names of others go to `unreadable`.

    Raises UserError for an unreadable file that is required.
    """
    for index, path in enumerate(paths):
        try:
            content = prepare(path)
        except UserError:
            if path in required:
                raise
            unreadable.append(str(path))
        else:
            yield index, content


def tell_listing(folder: Path) -> None:
    """Prints the number of images in a folder, and what is left out, to stderr."""
    found = list_image_files(folder)
    line = f"{folder}: {len(found.files)} images{left_out_clause(found.left_out)}"
    say(line, sys.stderr)


def unique_names(paths: Sequence[Path]) -> list[str]:
    """A name for the results of each path: its own without extension, numbered if not unique."""
    names: list[str] = []
    for path in paths:
        stem = path.resolve().name if path.is_dir() else path.stem
        name, count = stem, 1
        while name in names:
            count += 1
            name = f"{stem}_{count}"
        names.append(name)
    return names
