"""Middlebury: real and rendered scenes with small motions (Baker et al., IJCV 2011)."""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import ClassVar

from perceiver_io.data.flow.folders import FlowFolder, NamedPairs, Release, read_pair, subfolders
from perceiver_io.data.flow.pair import FlowPair
from perceiver_io.data.flow.pairs import FlowPreparation
from perceiver_io.data.pipeline.dataset import Composed

_RELEASE = Release(
    download=(
        "other-color-twoframes.zip and other-gt-flow.zip (train) or eval-color-twoframes.zip (test)"
    ),
    page="https://vision.middlebury.edu/flow/data",
    layout=(
        "other-data/Urban2/frame10.png",
        "other-data/Urban2/frame11.png",
        "other-gt-flow/Urban2/flow10.flo",
        "eval-data/Army/frame10.png",
        "eval-data/Army/frame11.png",
    ),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Middlebury(FlowFolder):
    """Middlebury flow: 8 training pairs with flow, 12 test pairs without, of various sizes.

    Backward flow and occlusions are not known; the flow of test pairs is not published.
    """

    splits: ClassVar[tuple[str, ...]] = ("train", "test")
    unlabelled_splits: ClassVar[tuple[str, ...]] = ("test",)

    def __call__(self, split: str) -> Sequence[FlowPair]:
        """The split's pairs, sorted by name. Raises UserError where its folder is missing."""
        # Some sequences in other-data have no flow.
        sequences = self.folder / ("other-gt-flow" if split == "train" else "eval-data")
        names = [folder.name for folder in subfolders(_RELEASE.existing(sequences))]
        return NamedPairs(names, self._read_training if split == "train" else self._read_test)

    def _read_training(self, name: str) -> FlowPair:
        flow = self.folder / "other-gt-flow" / name / "flow10.flo"
        return _read(name, self.folder / "other-data" / name, flow)

    def _read_test(self, name: str) -> FlowPair:
        return _read(name, self.folder / "eval-data" / name, None)


middlebury = Composed(Middlebury, FlowPreparation)


def _read(name: str, frames: pathlib.Path, flow: pathlib.Path | None) -> FlowPair:
    first, second = frames / "frame10.png", frames / "frame11.png"
    return read_pair(name, _RELEASE, first=first, second=second, flow=flow, backward=None)
