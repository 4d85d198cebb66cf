"""Rendered flying objects: FlyingChairs and FlyingThings3D.

Sources: Dosovitskiy et al., "FlowNet" (ICCV 2015); Mayer et al. (CVPR 2016, 1512.02134).
"""

import dataclasses
import functools
import pathlib
from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

from perceiver_io.config.annotations import Limit
from perceiver_io.data.flow.folders import (
    FlowFolder,
    NamedPairs,
    Release,
    first_frames,
    following,
    read_pair,
    subfolders,
)
from perceiver_io.data.flow.pair import FlowPair
from perceiver_io.data.flow.pairs import FlowPreparation
from perceiver_io.data.pipeline.dataset import Composed
from perceiver_io.errors import UserError

_PAGES = "https://lmb.informatik.uni-freiburg.de/resources/datasets"
_SPLIT_FILE = "FlyingChairs_train_val.txt"
_CHAIRS = Release(
    download=f"FlyingChairs.zip and {_SPLIT_FILE}",
    page=f"{_PAGES}/FlyingChairs.en.html",
    layout=(
        "data/00001_img1.ppm",
        "data/00001_img2.ppm",
        "data/00001_flow.flo",
        _SPLIT_FILE,
    ),
)
_THINGS = Release(
    download="the RGB images (PNG) and the optical flow of FlyingThings3D",
    page=f"{_PAGES}/SceneFlowDatasets.en.html",
    layout=(
        "frames_cleanpass/TRAIN/A/0000/left/0006.png",
        "frames_finalpass/TRAIN/A/0000/left/0006.png",
        "optical_flow/TRAIN/A/0000/into_future/left/OpticalFlowIntoFuture_0006_L.pfm",
        "optical_flow/TRAIN/A/0000/into_past/left/OpticalFlowIntoPast_0007_L.pfm",
        "frames_cleanpass/TEST/A/0000/left/0006.png",
    ),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class FlyingChairs(FlowFolder):
    """FlyingChairs: 22,872 pairs of 384x512 pixels, of which 640 are for validation.

    The file FlyingChairs_train_val.txt says which; without it all are for training. Backward flow
    and occlusions are not known.
    """

    splits: ClassVar[tuple[str, ...]] = ("train", "validation")

    def __call__(self, split: str) -> Sequence[FlowPair]:
        """The split's pairs. Raises UserError where the data or split file is missing."""
        data = _CHAIRS.existing(self.folder / "data")
        names = sorted(path.name.split("_")[0] for path in data.glob("[0-9]" * 5 + "_flow.flo"))
        if not names:
            raise _CHAIRS.missing(data / "00001_flow.flo")
        split_file = self.folder / _SPLIT_FILE
        if split_file.exists():
            chosen = _chosen(split_file, split)
            if int(names[-1]) > len(chosen):
                raise UserError(
                    f"{split_file} has {len(chosen)} lines, but there is a pair {names[-1]}; it "
                    f"must have one line per pair. Download it again from {_CHAIRS.page}."
                )
            names = [name for name in names if chosen[int(name) - 1]]
        elif split == "validation":
            raise _CHAIRS.missing(split_file)
        return NamedPairs(names, self._read)

    def _read(self, name: str) -> FlowPair:
        data = self.folder / "data"
        return read_pair(
            name,
            _CHAIRS,
            first=data / f"{name}_img1.ppm",
            second=data / f"{name}_img2.ppm",
            flow=data / f"{name}_flow.flo",
            backward=None,
        )


flying_chairs = Composed(FlyingChairs, FlowPreparation)


def _chosen(split_file: pathlib.Path, split: str) -> list[bool]:
    """Whether each pair, in order, belongs to the split: 1 is train, 2 is validation."""
    lines = split_file.read_text(encoding="utf-8-sig", errors="replace").split()
    for number, line in enumerate(lines, 1):
        if line not in ("1", "2"):
            raise UserError(
                f"{split_file} has {line[:20]!r} as entry {number}; entries must be 1 (train) or 2 "
                f"(validation). Download it again from {_CHAIRS.page}."
            )
    return [line == ("1" if split == "train" else "2") for line in lines]


EACH_ONCE = Limit("not empty, each camera once", lambda names: 0 < len(names) == len(set(names)))


@dataclasses.dataclass(frozen=True, kw_only=True)
class FlyingThings3D(FlowFolder):
    """FlyingThings3D: 540x960 pixels, with flow in both directions; occlusions are not known.

    Each sequence has ten frames, hence nine pairs, per camera. The test split has flow too.

    Attributes:
        rendering: "clean", or "final" with blur.
        cameras: "left", "right", or both.
    """

    rendering: Literal["clean", "final"]
    cameras: Annotated[tuple[Literal["left", "right"], ...], EACH_ONCE]

    splits: ClassVar[tuple[str, ...]] = ("train", "test")

    def __call__(self, split: str) -> Sequence[FlowPair]:
        """The split's pairs. Raises UserError where the folder or a frame is missing."""
        part = split.upper()
        names = _names(self.folder / f"frames_{self.rendering}pass" / part, self.cameras)
        return NamedPairs(names, functools.partial(self._read, part))

    def _read(self, part: str, name: str) -> FlowPair:
        scene, camera, number = name.rsplit("/", 2)
        frame = self.folder / f"frames_{self.rendering}pass" / part / f"{name}.png"
        flow = self.folder / "optical_flow" / part / scene
        letter = camera[0].upper()
        later = following(frame)
        return read_pair(
            name,
            _THINGS,
            first=frame,
            second=later,
            flow=flow / "into_future" / camera / f"OpticalFlowIntoFuture_{number}_{letter}.pfm",
            backward=flow / "into_past" / camera / f"OpticalFlowIntoPast_{later.stem}_{letter}.pfm",
        )


flying_things = Composed(FlyingThings3D, FlowPreparation)


@functools.lru_cache
def _names(frames: pathlib.Path, cameras: tuple[str, ...]) -> tuple[str, ...]:
    """The names letter/scene/camera/number of all pairs."""
    return tuple(
        f"{letter.name}/{scene.name}/{camera}/{number}"
        for letter in subfolders(_THINGS.existing(frames))
        for scene in subfolders(letter)
        for camera in cameras
        for number in first_frames(_THINGS.existing(scene / camera), _THINGS)
    )
