"""A folder of meshes in the layout of ModelNet40's OFF files."""

import contextlib
import dataclasses
import functools
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from perceiver_io.config.annotations import Rate, Text, Width
from perceiver_io.data.pipeline.dataset import Composed
from perceiver_io.data.pipeline.sources import LeftOut, Source
from perceiver_io.data.pipeline.splits import in_share
from perceiver_io.data.points.clouds import Cloud, CloudPreparation
from perceiver_io.data.points.meshes import MESHES, read_cloud
from perceiver_io.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeshFolder(Source):
    """Meshes root/<class>/train/* and root/<class>/test/*, sampled once.

    Labels follow the sorted class names. `experiments.check_data` samples all of them in advance.

    Attributes:
        root: the folder.
        held_out: the share of the training meshes that becomes the validation split, the same at
            each start.
        sampled: how many points are sampled on each mesh.
        cache: folder for the samples; None: a hidden one in `root`.
    """

    root: Text
    held_out: Rate = 0.1
    sampled: Width = 2048
    cache: Text | None = None

    @property
    def splits(self) -> tuple[str, ...]:
        """train, validation unless nothing is held out for it, and test."""
        return ("train", "validation", "test") if self.held_out > 0 else ("train", "test")

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the class folders. Raises UserError if there are none."""
        return _class_names(self._path)

    @property
    def left_out(self) -> LeftOut:
        """Files in the folders of the splits that are not meshes."""
        others = [
            str(path)
            for name in self.class_names
            for part in ("train", "test")
            for path in _files(self._path / name / part)
            if path.suffix.lower() not in MESHES
        ]
        return {"other files": others} if others else {}

    def __call__(self, split: str) -> Sequence[Cloud]:
        """The split's clouds, sampled or read when indexed."""
        return _Clouds(self, split)

    def meshes(self, split: str) -> list[tuple[Path, int]]:
        """The meshes with their labels, in a mixed order."""
        part = "test" if split == "test" else "train"
        meshes = []
        for label, name in enumerate(self.class_names):
            for path in _files(self._path / name / part):
                key = f"{name}/{path.name}".encode(errors="surrogateescape")
                held_out = part == "train" and in_share(key, self.held_out)
                wanted = part == "test" or held_out == (split == "validation")
                if wanted and path.suffix.lower() in MESHES:
                    meshes.append((path, label))
        order = np.random.default_rng(0).permutation(len(meshes))
        return [meshes[index] for index in order]

    def points(self, path: Path) -> Float[np.ndarray, "P 3"]:
        """The samples of a mesh. Raises UserError if it cannot be read or the cache not written."""
        cached = self._cached(path)
        if cached.exists() and cached.stat().st_mtime >= path.stat().st_mtime:
            return read_cloud(cached, self.sampled)
        points = read_cloud(path, self.sampled)
        _save(points, cached)
        return points

    def _cached(self, path: Path) -> Path:
        folder = self._path / ".sampled" if self.cache is None else Path(self.cache).expanduser()
        name = path.relative_to(self._path)
        return folder / str(self.sampled) / name.parent / f"{name.name}.npy"

    @property
    def _path(self) -> Path:
        return Path(self.root).expanduser()


mesh_folder = Composed(MeshFolder, CloudPreparation)


class _Clouds(Sequence[Cloud]):
    """The clouds of a split, with their `names`."""

    def __init__(self, source: MeshFolder, split: str) -> None:
        self._source, self._meshes = source, source.meshes(split)

    @property
    def names(self) -> list[str]:
        """CLASS/PART/FILE of each example."""
        return ["/".join(path.parts[-3:]) for path, _ in self._meshes]

    def __len__(self) -> int:
        return len(self._meshes)

    def __getitem__(self, index: int) -> Cloud:
        path, label = self._meshes[index]
        return Cloud(self._source.points(path), label, str(path))


@functools.lru_cache
def _class_names(root: Path) -> tuple[str, ...]:
    names = tuple(sorted(path.parent.name for path in root.glob("[!.]*/train") if path.is_dir()))
    if not names:
        raise UserError(
            f"There is no folder {root}/<class>/train: set config.data.root to a folder of meshes "
            "in the layout root/chair/train/1.off and root/chair/test/2.off."
        )
    return names


@functools.lru_cache(maxsize=256)
def _files(folder: Path) -> tuple[Path, ...]:
    if not folder.is_dir():
        return ()
    return tuple(sorted(x for x in folder.iterdir() if x.is_file() and x.name[0] != "."))


def _save(points: np.ndarray, path: Path) -> None:
    """Writes samples; the file is complete or not there, even if several processes write it."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            np.save(file, points)
        partial.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise UserError(
            f"Cannot write the samples of a mesh to {path} ({error.strerror}): set "
            "config.data.cache to a writable folder."
        ) from error
