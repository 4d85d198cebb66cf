"""A folder of files with one sub-folder for each class."""

import abc
import dataclasses
import functools
import hashlib
import os
import pathlib
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, ClassVar

from perceiver_io.data.pipeline.listing import (
    FoundFiles,
    is_visible_folder,
    list_files,
    printable,
    scan,
)
from perceiver_io.data.pipeline.sources import LeftOut, Source, left_out_clause, merged
from perceiver_io.data.pipeline.splits import Fractions, nonempty_splits, share, split_folders
from perceiver_io.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClassFolder(Source):
    """Files under root/train/<class>/, root/validation/<class>/ and root/test/<class>/.

    `validation` may also be called `val` or `valid`; it and `test` may be missing. Without a folder
    `train`, the layout is root/<class>/ and each class is split deterministically by
    `split_fractions`. Labels follow the sorted class names.

    Attributes:
        root: the folder.
        split_fractions: fractions of train, validation and test, used where there are no split
            folders.
        kind: what the files are, for error messages.
        sample: the name of such a file, for error messages.
    """

    root: str
    split_fractions: Fractions = (0.8, 0.1, 0.1)

    kind: ClassVar[str]
    sample: ClassVar[str]

    @staticmethod
    @abc.abstractmethod
    def suffixes() -> frozenset[str]:
        """The lower-case extensions of the files."""

    @staticmethod
    @abc.abstractmethod
    def example(path: str, label: int) -> Any:
        """The raw example of a file. Raises UserError if it cannot be read."""

    @property
    def splits(self) -> tuple[str, ...]:
        """Those of train, validation and test that exist."""
        return tuple(self._split_folders) or nonempty_splits(self.split_fractions)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the class folders. Raises UserError where there are none."""
        return tuple(map(printable, self._folder_names))

    @property
    def left_out(self) -> LeftOut:
        """Everything that is not a file of the kind in a class folder."""
        splits = self._split_folders.values()
        parts = [self._beside(self._path, [folder.name for folder in splits])] if splits else []
        for folder in splits or [self._path]:
            parts.append(self._beside(folder, self._classes(folder)))
            parts += [found.left_out for found in self._list(folder).values()]
        return merged(*parts)

    def __call__(self, split: str) -> Sequence[Any]:
        """The split's examples, read when indexed. Raises UserError on an empty class."""
        folder = self._split_folders.get(split, self._path)
        labels = {name: label for label, name in enumerate(self._folder_names)}
        extra = set(self._classes(folder)) - labels.keys()
        if extra:
            raise UserError(
                f"{folder} has the classes {', '.join(sorted(extra))}, which "
                f"{self._split_folders['train']} lacks; add them there, or remove them."
            )
        files, broken = {}, {}
        for name, found in self._list(folder).items():
            paths = found.files
            if folder == self._path:
                paths = share(sorted(paths, key=_digest), split, self.split_fractions)
            files |= dict.fromkeys(paths, labels[name])
            broken |= found.broken
        # In a mixed order, so that consecutive examples are of several classes.
        mixed = sorted(files.items(), key=lambda file: _digest(file[0]))
        return _Files(mixed, broken, self.example)

    @property
    def _folder_names(self) -> tuple[str, ...]:
        """Folder names of the classes, by label."""
        return self._classes(self._split_folders.get("train", self._path))

    @property
    def _path(self) -> pathlib.Path:
        return pathlib.Path(self.root).expanduser()

    @property
    def _split_folders(self) -> dict[str, pathlib.Path]:
        """The folder of each split; empty if the class folders are in the root."""
        return split_folders(self._path)

    def _classes(self, folder: pathlib.Path) -> tuple[str, ...]:
        return _class_names(folder, self.kind, self.sample)

    def _list(self, folder: pathlib.Path) -> dict[str, FoundFiles]:
        """The files of each class below `folder`. Raises UserError on a class without any."""
        return _list_classes(folder, self._classes(folder), self.kind, self.suffixes())

    def _beside(self, folder: pathlib.Path, folders: Collection[str]) -> LeftOut:
        """The entries of a folder other than the sub-folders that are used."""
        found = list_files(folder, self.suffixes())
        others = [
            x for x in found.left_out.get("folders", ()) if os.path.basename(x) not in folders
        ]
        outside = f"{self.kind} outside of class folders"
        kinds = {**found.left_out, "folders": others, outside: found.files}
        return {kind: paths for kind, paths in kinds.items() if paths}


class _Files(Sequence[Any]):
    """Files with labels, each read when indexed; see `Source.__call__` for the attributes."""

    def __init__(
        self,
        files: Sequence[tuple[str, int]],
        broken: Mapping[str, str],
        example: Callable[[str, int], Any],
    ) -> None:
        self._files, self._broken, self._example = files, broken, example

    @property
    def names(self) -> list[str]:
        """CLASS/FILE of each example."""
        return [_name(path) for path, _ in self._files]

    @property
    def broken(self) -> dict[int, str]:
        """The examples known to be broken: the reason, by index."""
        return {
            index: self._broken[path]
            for index, (path, _) in enumerate(self._files)
            if path in self._broken
        }

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> Any:
        return self._example(*self._files[index])


@functools.lru_cache
def _class_names(folder: pathlib.Path, kind: str, sample: str) -> tuple[str, ...]:
    layout = (
        f"expected one sub-folder of {kind} for each class, as in root/train/cat/{sample} or "
        f"root/cat/{sample}; set config.data.root to such a folder"
    )
    if not folder.is_dir():
        raise UserError(f"There is no folder {folder}: {layout}.")
    names = tuple(entry.name for entry in scan(folder) if is_visible_folder(entry))
    if not names:
        raise UserError(f"The folder {folder} has no sub-folders: {layout}.")
    return names


@functools.lru_cache
def _list_classes(
    folder: pathlib.Path, names: tuple[str, ...], kind: str, suffixes: frozenset[str]
) -> dict[str, FoundFiles]:
    files = {}
    for name in names:
        files[name] = found = list_files(folder / name, suffixes)
        if not found.files:
            raise UserError(
                f"The class folder {folder / name} has no {kind}"
                f"{left_out_clause(found.left_out)}. Add some ("
                f"{', '.join(sorted(suffixes))}), or remove the folder."
            )
    return files


def _name(path: str) -> str:
    """CLASS/FILE, which does not depend on the location of the folder."""
    return "/".join(path.split(os.sep)[-2:])


def _digest(path: str) -> bytes:
    """An arbitrary sort key that depends only on the class and the file name."""
    return hashlib.sha256(os.fsencode(_name(path))).digest()
