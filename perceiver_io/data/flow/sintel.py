"""MPI Sintel: an animated movie with its optical flow (Butler et al., ECCV 2012)."""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np

from perceiver_io.data.flow.files import Flow
from perceiver_io.data.flow.folders import (
    FlowFolder,
    NamedPairs,
    Release,
    first_frames,
    following,
    read_mask,
    read_pair,
    subfolders,
)
from perceiver_io.data.flow.pair import FlowPair
from perceiver_io.data.flow.pairs import FlowPreparation
from perceiver_io.data.pipeline.dataset import Composed

_RELEASE = Release(
    download="MPI-Sintel-complete.zip",
    page="http://sintel.is.tue.mpg.de",
    layout=(
        "training/clean/alley_1/frame_0001.png",
        "training/final/alley_1/frame_0001.png",
        "training/flow/alley_1/frame_0001.flo",
        "training/invalid/alley_1/frame_0001.png",
        "training/occlusions/alley_1/frame_0001.png",
        "test/clean/ambush_1/frame_0001.png",
        "test/final/ambush_1/frame_0001.png",
    ),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sintel(FlowFolder):
    """MPI Sintel, 436x1024 pixels: 1041 training pairs with flow, 552 test pairs without.

    Pairs are in the order of the frames, sequence by sequence. Flow is not valid where
    training/invalid says so; `occluded` comes from training/occlusions. The flow of test pairs is
    not published.

    Attributes:
        rendering: "clean", or "final" with blur and atmosphere.
    """

    rendering: Literal["clean", "final"]

    splits: ClassVar[tuple[str, ...]] = ("train", "test")
    unlabelled_splits: ClassVar[tuple[str, ...]] = ("test",)

    def __call__(self, split: str) -> Sequence[FlowPair]:
        """The split's pairs. Raises UserError where the folder or a frame is missing."""
        part = "training" if split == "train" else "test"
        sequences = subfolders(_RELEASE.existing(self.folder / part / self.rendering))
        names = [
            f"{sequence.name}/{frame}"
            for sequence in sequences
            for frame in first_frames(sequence, _RELEASE)
        ]
        return NamedPairs(names, self._read_training if split == "train" else self._read_test)

    def _read_test(self, name: str) -> FlowPair:
        frame = self.folder / "test" / self.rendering / f"{name}.png"
        return read_pair(
            name, _RELEASE, first=frame, second=following(frame), flow=None, backward=None
        )

    def _read_training(self, name: str) -> FlowPair:
        folder = self.folder / "training"
        frame = folder / self.rendering / f"{name}.png"
        pair = read_pair(
            name,
            _RELEASE,
            first=frame,
            second=following(frame),
            flow=folder / "flow" / f"{name}.flo",
            backward=None,
        )
        invalid, occluded = (
            read_mask(_RELEASE.existing(folder / kind / f"{name}.png"), pair.size)
            for kind in ("invalid", "occlusions")
        )
        valid = pair.flow.valid & ~invalid
        flow = np.where(valid[..., None], pair.flow.flow, np.float32(0))
        return pair._replace(flow=Flow(flow, valid), occluded=occluded)


sintel = Composed(Sintel, FlowPreparation)
