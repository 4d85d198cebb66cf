"""ModelNet40 from the folder `modelnet40_ply_hdf5_2048`."""

import dataclasses
import functools
import re
import types
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np

from perceiver_io.config.annotations import Rate, Text
from perceiver_io.data.pipeline.dataset import Composed
from perceiver_io.data.pipeline.sources import ReadOnUse, Source
from perceiver_io.data.pipeline.splits import in_share
from perceiver_io.data.points.clouds import Cloud, CloudPreparation
from perceiver_io.errors import UserError

_CLASSES = (
    "airplane bathtub bed bench bookshelf bottle bowl car chair cone cup curtain desk door dresser "
    "flower_pot glass_box guitar keyboard lamp laptop mantel monitor night_stand person piano "
    "plant radio range_hood sink sofa stairs stool table tent toilet tv_stand vase wardrobe xbox"
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelNet40(Source):
    """Clouds of 2048 points of 40 kinds of objects, y up: 9,840 for training, 2,468 for testing.

    Read from `ply_data_train*.h5` and `ply_data_test*.h5`, each with `data` [n, 2048, 3] and
    `label` [n, 1]. If there is `shape_names.txt`, it must have the usual names.

    Attributes:
        root: the folder.
        held_out: the share of the training clouds that becomes the validation split, the same at
            each start; equal clouds are in the same split.
    """

    root: Text
    held_out: Rate = 0.1

    class_names: ClassVar[tuple[str, ...]] = tuple(_CLASSES.split())

    @property
    def splits(self) -> tuple[str, ...]:
        """train, validation unless nothing is held out for it, and test."""
        return ("train", "validation", "test") if self.held_out > 0 else ("train", "test")

    def __call__(self, split: str) -> Sequence[Cloud]:
        """All clouds of the split, which each process reads when it needs them.

        Raises UserError naming a file that cannot be read.
        """
        return ReadOnUse(functools.partial(_clouds, self, split))


modelnet40 = Composed(ModelNet40, CloudPreparation)


def import_h5py() -> types.ModuleType:
    """h5py. Raises UserError when it is not installed."""
    try:
        import h5py
    except ImportError as error:
        raise UserError("HDF5 files need the package h5py: `pip install h5py`.") from error
    return h5py


@functools.cache
def _clouds(source: ModelNet40, split: str) -> list[Cloud]:
    if split == "test":
        return _read(source, "test")
    is_validation = split == "validation"
    return [
        cloud
        for cloud in _read(source, "train")
        if in_share(cloud.points.tobytes(), source.held_out) == is_validation
    ]


def _read(source: ModelNet40, part: str) -> list[Cloud]:
    """The clouds of the files of a part, `train` or `test`."""
    folder = Path(source.root).expanduser()
    paths = sorted(folder.glob(f"ply_data_{part}*.h5"), key=_number)
    if not paths:
        raise UserError(
            f"There are no files {folder}/ply_data_{part}*.h5: set config.data.root to the folder "
            "modelnet40_ply_hdf5_2048."
        )
    names = folder / "shape_names.txt"
    if names.exists() and names.read_text(errors="replace").split() != list(source.class_names):
        raise UserError(
            f"{names} does not have the 40 names of ModelNet40, {source.class_names[0]} to "
            f"{source.class_names[-1]}: set config.data.root to the folder "
            "modelnet40_ply_hdf5_2048, or remove the file if the labels are those of ModelNet40."
        )
    found = []
    for path in paths:
        points, labels = _arrays(path)
        if labels.min(initial=0) < 0 or labels.max(initial=0) >= len(source.class_names):
            raise UserError(
                f"{path} has labels from {labels.min()} to {labels.max()}, but those of ModelNet40 "
                f"are 0 to {len(source.class_names) - 1}."
            )
        rows = zip(points, labels, strict=True)
        found += [Cloud(x, int(label), f"{path.name}/{i}") for i, (x, label) in enumerate(rows)]
    return found


def _arrays(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Points [n, P, 3] and labels [n] of a file."""
    h5py = import_h5py()
    try:
        with h5py.File(path) as file:
            points, labels = file["data"][:], file["label"][:].reshape(-1)
    except (OSError, KeyError, AttributeError, TypeError) as error:
        raise UserError(f"Cannot read {path} ({error}): copy or download it again.") from error
    if points.ndim != 3 or points.shape[::2] != (len(labels), 3) or labels.dtype.kind not in "iu":
        raise UserError(
            f"{path} has data {list(points.shape)} and {labels.dtype} label {list(labels.shape)}, "
            "but ModelNet40 has data [n, points, 3] and whole numbers, one label for each cloud."
        )
    return np.asarray(points, np.float32), labels.astype(np.int32)


def _number(path: Path) -> tuple[int, str]:
    digits = re.findall(r"\d+", path.stem)
    return int(digits[-1]) if digits else -1, path.name
