"""Photographs of fruit in shops, bundled with the project; see bundled/photos/ORIGIN.md."""

import dataclasses
import functools
import pathlib
import zipfile
from collections.abc import Sequence
from typing import ClassVar, Literal

from perceiver_io.data.pipeline.dataset import Composed
from perceiver_io.data.pipeline.sources import Source
from perceiver_io.data.vision.images import EncodedImage, PhotographPreparation

_ARCHIVE = pathlib.Path(__file__).parents[1] / "bundled" / "photos" / "photos.zip"

_CLASSES = {
    "Apple": ("Golden-Delicious", "Granny-Smith", "Pink-Lady", "Red-Delicious", "Royal-Gala"),
    "Melon": ("Cantaloupe", "Galia-Melon", "Honeydew-Melon", "Watermelon"),
    "Orange": ("Orange",),
    "Pear": ("Anjou", "Conference", "Kaiser"),
    "Satsumas": ("Satsumas",),
}
_COARSE = tuple(_CLASSES)
_FINE = tuple(fine for names in _CLASSES.values() for fine in names)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Photos(Source):
    """1393 photos of 5 kinds and 14 varieties of fruit, their shorter side 64 pixels long.

    The splits are those of the dataset's authors: train 675, validation 57, test 661 photos.

    Attributes:
        labels: "coarse" for the 5 kinds, "fine" for the 14 varieties.
    """

    labels: Literal["coarse", "fine"]

    splits: ClassVar[tuple[str, ...]] = ("train", "validation", "test")

    @property
    def class_names(self) -> tuple[str, ...]:
        """The 5 or 14 names, sorted by kind, then by variety."""
        return _COARSE if self.labels == "coarse" else _FINE

    def __call__(self, split: str) -> Sequence[EncodedImage]:
        """All photos of the split, in memory."""
        return _read(split, fine=self.labels == "fine")


photos = Composed(Photos, PhotographPreparation)


@functools.cache
def _read(split: str, *, fine: bool) -> tuple[EncodedImage, ...]:
    found = []
    with zipfile.ZipFile(_ARCHIVE) as archive:
        for name in archive.namelist():
            folder, coarse_name, fine_name, _ = name.split("/")
            if folder == split:
                label = _FINE.index(fine_name) if fine else _COARSE.index(coarse_name)
                found.append(EncodedImage(archive.read(name), label, name))
    return tuple(found)
