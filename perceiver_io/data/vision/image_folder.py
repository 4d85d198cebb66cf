"""A folder of images with one sub-folder for each class."""

import dataclasses
import functools
import hashlib
import os
import pathlib
from collections.abc import Sequence
from typing import Annotated

from perceiver_io.config.annotations import Limit, Probability
from perceiver_io.data.pipeline.dataset import Composed
from perceiver_io.data.pipeline.sources import Source
from perceiver_io.data.vision.images import EncodedImage, PhotographPreparation
from perceiver_io.errors import UserError

_SPLITS = ("train", "validation", "test")
_SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp"))

SUM_OF_ONE = Limit("numbers that add up to 1", lambda shares: abs(sum(shares) - 1) <= 1e-6)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageFolder(Source):
    """Images under root/train/<class>/, root/validation/<class>/ and root/test/<class>/.

    Validation and test may be missing. Without a folder `train`, the layout is root/<class>/ and
    each class is split deterministically by `split_fractions`. Labels follow the sorted class
    names.

    Attributes:
        root: the folder.
        split_fractions: fractions of train, validation and test, used where there are no split
            folders.
    """

    root: str
    split_fractions: Annotated[tuple[Probability, Probability, Probability], SUM_OF_ONE] = (
        0.8,
        0.1,
        0.1,
    )

    @property
    def splits(self) -> tuple[str, ...]:
        """Those of train, validation and test that exist."""
        if self._has_split_folders:
            return tuple(split for split in _SPLITS if (self._path / split).is_dir())
        return tuple(s for s, share in zip(_SPLITS, self.split_fractions, strict=True) if share > 0)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the class folders. Raises UserError where there are none."""
        return _class_names(self._path / "train" if self._has_split_folders else self._path)

    def __call__(self, split: str) -> Sequence[EncodedImage]:
        """The split's images, read when indexed. Raises UserError on an empty class."""
        if self._has_split_folders:
            extra = set(_class_names(self._path / split)) - set(self.class_names)
            if extra:
                raise UserError(
                    f"{self._path / split} has the classes {', '.join(sorted(extra))}, which "
                    f"{self._path / 'train'} lacks; add them there, or remove them."
                )
            folders = _list_images(self._path / split)
        else:
            folders = {
                name: _select(files, split, self.split_fractions)
                for name, files in _list_images(self._path).items()
            }
        labels = {name: label for label, name in enumerate(self.class_names)}
        files = [(path, labels[name]) for name, paths in folders.items() for path in paths]
        # In a mixed order, so that consecutive images are of several classes.
        return _Files(sorted(files, key=lambda file: _digest(file[0])))

    @property
    def _path(self) -> pathlib.Path:
        return pathlib.Path(self.root).expanduser()

    @property
    def _has_split_folders(self) -> bool:
        return (self._path / "train").is_dir()


image_folder = Composed(ImageFolder, PhotographPreparation)


class _Files(Sequence[EncodedImage]):
    """Files with labels, each read when indexed."""

    def __init__(self, files: Sequence[tuple[str, int]]) -> None:
        self._files = files

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> EncodedImage:
        path, label = self._files[index]
        try:
            return EncodedImage(pathlib.Path(path).read_bytes(), label, path)
        except OSError as error:
            raise UserError(f"Cannot read image {path}: {error.strerror}.") from error


@functools.lru_cache
def _class_names(folder: pathlib.Path) -> tuple[str, ...]:
    layout = (
        "expected one sub-folder of images for each class, as in root/train/cat/1.jpg or "
        "root/cat/1.jpg; set config.data.root to such a folder"
    )
    if not folder.is_dir():
        raise UserError(f"There is no folder {folder}: {layout}.")
    names = sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    if not names:
        raise UserError(f"The folder {folder} has no sub-folders: {layout}.")
    return tuple(names)


@functools.lru_cache
def _list_images(folder: pathlib.Path) -> dict[str, tuple[str, ...]]:
    """Sorted paths of the images of each class below `folder`."""
    images = {}
    for name in _class_names(folder):
        with os.scandir(folder / name) as entries:
            paths = [entry.path for entry in entries if _is_image(entry.name)]
        images[name] = tuple(sorted(paths))
        if not images[name]:
            raise UserError(
                f"The class folder {folder / name} has no images; add some ("
                f"{', '.join(sorted(_SUFFIXES))}), or remove the folder."
            )
    return images


def _is_image(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in _SUFFIXES


def _digest(path: str) -> bytes:
    """An arbitrary sort key that depends only on the class and the file name."""
    return hashlib.sha256("/".join(path.split(os.sep)[-2:]).encode()).digest()


def _select(
    paths: Sequence[str], split: str, fractions: tuple[float, float, float]
) -> Sequence[str]:
    """The split's part of a class, chosen deterministically."""
    ordered = sorted(paths, key=_digest)
    position = _SPLITS.index(split)
    start = round(sum(fractions[:position]) * len(paths))
    stop = round(sum(fractions[: position + 1]) * len(paths))
    return ordered[start:stop]
