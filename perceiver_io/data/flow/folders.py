"""Common parts of the optical flow datasets that are read from their publishers' folders.

The name of a pair is the part of its paths that varies. A source holds the names and reads a pair
when it is indexed.
"""

import dataclasses
import pathlib
import re
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Shaped

from perceiver_io.data.flow.files import Flow, read_flow
from perceiver_io.data.flow.pair import FlowPair
from perceiver_io.data.pipeline.listing import is_visible_folder, scan
from perceiver_io.data.pipeline.sources import Source
from perceiver_io.data.vision.image_sequence import read_image
from perceiver_io.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class FlowFolder(Source):
    """Pairs of frames in files below a folder.

    Attributes:
        root: the folder, in the layout of its publisher.
    """

    root: str

    @property
    def folder(self) -> pathlib.Path:
        """The path of `root`."""
        return pathlib.Path(self.root).expanduser()


class NamedPairs(Sequence[FlowPair]):
    """Pairs that are read when they are indexed.

    Args:
        names: one for each pair.
        read: reads the pair of a name; must be cheap to pickle.
    """

    def __init__(self, names: Sequence[str], read: Callable[[str], FlowPair]) -> None:
        self._names = tuple(names)
        self._read = read

    @property
    def names(self) -> tuple[str, ...]:
        """See `Source.__call__`."""
        return self._names

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, index: int) -> FlowPair:
        return self._read(self._names[index])


class Release(NamedTuple):
    """How a dataset is published, for the error message when files are missing.

    Attributes:
        download: the files to download.
        page: where the publisher offers them.
        layout: one example path of each kind, below the root.
    """

    download: str
    page: str
    layout: tuple[str, ...]

    def missing(self, path: pathlib.Path) -> UserError:
        """The error for a missing file or folder."""
        drawing = "".join(f"\n    root/{line}" for line in self.layout)
        return UserError(
            f"There is no {path}. Download {self.download} from {self.page}, unpack, and set "
            f"config.data.root to the folder with this layout:{drawing}"
        )

    def existing(self, path: pathlib.Path) -> pathlib.Path:
        """The path itself. Raises UserError if it does not exist."""
        if not path.exists():
            raise self.missing(path)
        return path


def subfolders(folder: pathlib.Path) -> list[pathlib.Path]:
    """The non-hidden sub-folders of a folder, sorted by name."""
    return [folder / entry.name for entry in scan(folder) if is_visible_folder(entry)]


def following(frame: pathlib.Path) -> pathlib.Path:
    """The path of the next frame of a sequence: frame_0002.png after frame_0001.png."""
    prefix, digits = re.fullmatch(r"(.*?)(\d+)", frame.stem).groups()
    return frame.with_stem(f"{prefix}{int(digits) + 1:0{len(digits)}}")


def first_frames(folder: pathlib.Path, release: Release) -> list[str]:
    """Names without extension of a sequence's PNG frames, in order, all but the last.

    Raises UserError when a frame of the sequence is missing, and on fewer than two frames.
    """
    frames = sorted(folder.glob("[!.]*[0-9].png"))
    if len(frames) < 2:
        raise release.missing(following(frames[0]) if frames else folder / "*.png")
    for frame, later in pairwise(frames):
        if later != following(frame):
            raise release.missing(following(frame))
    return [frame.stem for frame in frames[:-1]]


def read_pair(
    name: str,
    release: Release,
    *,
    first: pathlib.Path,
    second: pathlib.Path,
    flow: pathlib.Path | None,
    backward: pathlib.Path | None,
) -> FlowPair:
    """Reads frames and flow; if the path of `flow` is None, no pixel's flow is known.

    Raises UserError on a missing or damaged file, and on differing sizes.
    """
    paths = (first, second, flow, backward)
    for path in paths:
        if path is not None:
            release.existing(path)
    frames = read_image(first), read_image(second)
    size = frames[0].shape[:2]
    unknown = Flow(np.zeros((*size, 2), np.float32), np.zeros(size, bool))
    pair = FlowPair(
        *frames,
        flow=unknown if flow is None else read_flow(flow),
        backward=None if backward is None else read_flow(backward),
        occluded=None,
        name=name,
    )
    sized = (pair.first, pair.second, pair.flow.valid, pair.backward and pair.backward.valid)
    for path, array in zip(paths, sized, strict=True):
        if path is not None:
            check_size(path, array, size)
    return pair


def read_mask(path: pathlib.Path, size: tuple[int, int]) -> Bool[np.ndarray, "H W"]:
    """Where an image is not black. Raises UserError unless its size is `size` = (height, width)."""
    mask = read_image(path).any(axis=-1)
    check_size(path, mask, size)
    return mask


def check_size(path: pathlib.Path, array: Shaped[np.ndarray, "..."], size: tuple[int, int]) -> None:
    """Raises UserError when the array read from `path` does not have `size` = (height, width)."""
    if array.shape[:2] != size:
        height, width = array.shape[:2]
        raise UserError(
            f"{path} is {width} pixels wide and {height} high, but the first frame of its pair is "
            f"{size[1]} wide and {size[0]} high; they must be equal. Unpack its files again."
        )
