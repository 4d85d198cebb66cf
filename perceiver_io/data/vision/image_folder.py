"""A folder of images with one sub-folder for each class."""

import dataclasses
import functools
import hashlib
import os
import pathlib
from collections.abc import Collection, Mapping, Sequence

from perceiver_io.data.pipeline.dataset import Composed
from perceiver_io.data.pipeline.sources import LeftOut, Source, left_out_clause, merged
from perceiver_io.data.pipeline.splits import Fractions, nonempty_splits, share, split_folders
from perceiver_io.data.vision.image_files import (
    ImageFiles,
    image_suffixes,
    is_visible_folder,
    list_image_files,
    printable,
    scan,
)
from perceiver_io.data.vision.images import EncodedImage, PhotographPreparation
from perceiver_io.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageFolder(Source):
    """Images under root/train/<class>/, root/validation/<class>/ and root/test/<class>/.

    `validation` may also be called `val` or `valid`; it and `test` may be missing. Without a folder
    `train`, the layout is root/<class>/ and each class is split deterministically by
    `split_fractions`. Labels follow the sorted class names.

    Attributes:
        root: the folder.
        split_fractions: fractions of train, validation and test, used where there are no split
            folders.
    """

    root: str
    split_fractions: Fractions = (0.8, 0.1, 0.1)

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
        """Everything that is not an image in a class folder."""
        splits = self._split_folders.values()
        parts = [_beside(self._path, [folder.name for folder in splits])] if splits else []
        for folder in splits or [self._path]:
            parts.append(_beside(folder, _class_names(folder)))
            parts += [found.left_out for found in _list_images(folder).values()]
        return merged(*parts)

    def __call__(self, split: str) -> Sequence[EncodedImage]:
        """The split's images, read when indexed. Raises UserError on an empty class."""
        folder = self._split_folders.get(split, self._path)
        labels = {name: label for label, name in enumerate(self._folder_names)}
        extra = set(_class_names(folder)) - labels.keys()
        if extra:
            raise UserError(
                f"{folder} has the classes {', '.join(sorted(extra))}, which "
                f"{self._split_folders['train']} lacks; add them there, or remove them."
            )
        files, broken = {}, {}
        for name, found in _list_images(folder).items():
            images = found.images
            if folder == self._path:
                images = share(sorted(images, key=_digest), split, self.split_fractions)
            files |= dict.fromkeys(images, labels[name])
            broken |= found.broken
        # In a mixed order, so that consecutive images are of several classes.
        return _Files(sorted(files.items(), key=lambda file: _digest(file[0])), broken)

    @property
    def _folder_names(self) -> tuple[str, ...]:
        """Folder names of the classes, by label."""
        return _class_names(self._split_folders.get("train", self._path))

    @property
    def _path(self) -> pathlib.Path:
        return pathlib.Path(self.root).expanduser()

    @property
    def _split_folders(self) -> dict[str, pathlib.Path]:
        """The folder of each split; empty if the class folders are in the root."""
        return split_folders(self._path)


image_folder = Composed(ImageFolder, PhotographPreparation)


class _Files(Sequence[EncodedImage]):
    """Files with labels, each read when indexed; see `Source.__call__` for the attributes."""

    def __init__(self, files: Sequence[tuple[str, int]], broken: Mapping[str, str]) -> None:
        self._files, self._broken = files, broken

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
    names = tuple(entry.name for entry in scan(folder) if is_visible_folder(entry))
    if not names:
        raise UserError(f"The folder {folder} has no sub-folders: {layout}.")
    return names


@functools.lru_cache
def _list_images(folder: pathlib.Path) -> dict[str, ImageFiles]:
    """The images of each class below `folder`. Raises UserError on a class without any."""
    images = {}
    for name in _class_names(folder):
        images[name] = found = list_image_files(folder / name)
        if not found.images:
            raise UserError(
                f"The class folder {folder / name} has no images"
                f"{left_out_clause(found.left_out)}. Add some ("
                f"{', '.join(sorted(image_suffixes()))}), or remove the folder."
            )
    return images


def _beside(folder: pathlib.Path, folders: Collection[str]) -> LeftOut:
    """The entries of a folder other than the sub-folders that are used."""
    found = list_image_files(folder)
    others = [x for x in found.left_out.get("folders", ()) if os.path.basename(x) not in folders]
    kinds = {**found.left_out, "folders": others, "images outside of class folders": found.images}
    return {kind: paths for kind, paths in kinds.items() if paths}


def _name(path: str) -> str:
    """CLASS/FILE, which does not depend on the location of the folder."""
    return "/".join(path.split(os.sep)[-2:])


def _digest(path: str) -> bytes:
    """An arbitrary sort key that depends only on the class and the file name."""
    return hashlib.sha256(os.fsencode(_name(path))).digest()
