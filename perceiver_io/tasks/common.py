"""What all predictions share: weights with their model, files in and out, progress."""

import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

from tqdm import tqdm

from perceiver_io.data.pipeline.dataset import Dataset
from perceiver_io.data.vision.image_sequence import list_images
from perceiver_io.errors import UserError
from perceiver_io.models.architectures import Architecture
from perceiver_io.pretrained.weights import Weights

_SECONDS_BETWEEN_LINES = 10


class Trained(NamedTuple):
    """A model that can be asked.

    Attributes:
        model: its functions.
        weights: its config section, arrays, and the names of its classes.
        dataset: what it was trained on, where that is known.
    """

    model: Architecture
    weights: Weights
    dataset: Dataset | None


class Prediction(NamedTuple):
    """An answer, as text for people and as an object for `predictions.json`."""

    text: str
    summary: dict[str, Any]


def create_folder(path: str) -> Path:
    """The folder, made if it is not there. Raises UserError if nothing can be written into it."""
    folder = Path(path).expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(
            f"--output={path} is no folder that can be written to ({error.strerror}): give another."
        ) from error
    return folder


def existing(inputs: Iterable[str]) -> list[Path]:
    """The inputs as paths. Raises UserError for one that does not exist."""
    paths = [Path(name).expanduser() for name in inputs]
    for path in paths:
        if not path.exists():
            raise UserError(f"--inputs={path}: there is no such file or folder.")
    return paths


def images_of(inputs: Iterable[str]) -> list[Path]:
    """The images among the inputs, those of folders included. Raises UserError if one is missing.

    Of folders those without images are errors as well.
    """
    images = []
    for path in existing(inputs):
        images += list_images(path) if path.is_dir() else [path]
    return images


def unique_names(paths: Sequence[Path]) -> list[str]:
    """A name for the results of each path: its own without the ending, or a numbered one."""
    names: list[str] = []
    for path in paths:
        stem = path.resolve().name if path.is_dir() else path.stem
        name, count = stem, 1
        while name in names:
            count += 1
            name = f"{stem}_{count}"
        names.append(name)
    return names


class Progress:
    """How much of a long computation is done, on stderr: a bar on a terminal, else some lines."""

    def __init__(self, total: int | None, unit: str):
        """Begins to count `unit`s; `total` None where their number is not known."""
        self._total, self._unit, self._done = total, unit, 0
        self._started = self._said = time.perf_counter()
        self._is_terminal = sys.stderr.isatty()
        self._bar = tqdm(
            total=total,
            unit=f" {unit}",
            unit_scale=True,
            dynamic_ncols=True,
            disable=not self._is_terminal,
        )

    def advance(self, count: int) -> None:
        """`count` more are done."""
        self._done += count
        self._bar.update(count)
        if time.perf_counter() - self._said > _SECONDS_BETWEEN_LINES:
            self._say()

    def _say(self) -> None:
        self._said = time.perf_counter()
        if not self._is_terminal:
            of_all = "" if self._total is None else f" of {self._total:,}"
            seconds = self._said - self._started
            line = f"{self._done:,}{of_all} {self._unit}, {seconds:.0f} s"
            if self._total and 0 < self._done < self._total:
                left = seconds / self._done * (self._total - self._done)
                line += f", about {left:.0f} s left"
            print(line, file=sys.stderr)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.close()
        if error == (None, None, None):
            self._say()
