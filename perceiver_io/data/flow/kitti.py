"""KITTI: street scenes recorded from a car, with flow measured by lidar.

Sources: Geiger et al. (CVPR 2012), Menze and Geiger (CVPR 2015), and their development kits.
"""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import ClassVar, Literal

from perceiver_io.data.flow.files import read_kitti_png
from perceiver_io.data.flow.folders import (
    FlowFolder,
    NamedPairs,
    Release,
    check_size,
    following,
    read_pair,
)
from perceiver_io.data.flow.pair import FlowPair
from perceiver_io.data.flow.pairs import FlowPreparation
from perceiver_io.data.pipeline.dataset import Composed


def _release(download: str, page: str, frames: str) -> Release:
    return Release(
        download,
        page,
        layout=(
            f"training/{frames}/000000_10.png",
            f"training/{frames}/000000_11.png",
            "training/flow_occ/000000_10.png",
            "training/flow_noc/000000_10.png",
            f"testing/{frames}/000000_10.png",
            f"testing/{frames}/000000_11.png",
        ),
    )


_PAGES = "https://www.cvlibs.net/datasets/kitti"
_RELEASES = {
    2012: _release(
        "data_stereo_flow.zip", f"{_PAGES}/eval_stereo_flow.php?benchmark=flow", "colored_0"
    ),
    2015: _release(
        "data_scene_flow.zip", f"{_PAGES}/eval_scene_flow.php?benchmark=flow", "image_2"
    ),
}
# Of the left camera; 2012 also has grey images.
_FRAMES = {2012: ("colored_0", "image_0"), 2015: ("image_2",)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Kitti(FlowFolder):
    """KITTI flow: 194 training and 195 test pairs in 2012, 200 and 200 in 2015.

    Frames have about 375x1242 pixels, varying slightly, and are grey where the folder colored_0 of
    2012 is missing. Flow is known where the laser measured it; among these pixels, `occluded` marks
    those whose target is outside the second frame. The flow of test pairs is not published.

    Attributes:
        year: of the benchmark.
    """

    year: Literal[2012, 2015]

    splits: ClassVar[tuple[str, ...]] = ("train", "test")
    unlabelled_splits: ClassVar[tuple[str, ...]] = ("test",)

    def __call__(self, split: str) -> Sequence[FlowPair]:
        """The split's pairs. Raises UserError where the folder is missing or empty."""
        part = "training" if split == "train" else "testing"
        frames = self._frames(part)
        names = sorted(path.stem for path in frames.glob("[!.]*_10.png"))
        if not names:
            raise self._release.missing(frames / "000000_10.png")
        return NamedPairs(names, self._read_training if split == "train" else self._read_testing)

    @property
    def _release(self) -> Release:
        return _RELEASES[self.year]

    def _frames(self, part: str) -> pathlib.Path:
        candidates = [self.folder / part / name for name in _FRAMES[self.year]]
        there = [folder for folder in candidates if folder.is_dir()]
        return there[0] if there else self._release.existing(candidates[0])

    def _read(self, part: str, name: str, flow: pathlib.Path | None) -> FlowPair:
        first = self._frames(part) / f"{name}.png"
        second = following(first)
        return read_pair(name, self._release, first=first, second=second, flow=flow, backward=None)

    def _read_testing(self, name: str) -> FlowPair:
        return self._read("testing", name, None)

    def _read_training(self, name: str) -> FlowPair:
        everywhere, visible = (
            self.folder / "training" / kind / f"{name}.png" for kind in ("flow_occ", "flow_noc")
        )
        pair = self._read("training", name, everywhere)
        known = read_kitti_png(self._release.existing(visible)).valid
        check_size(visible, known, pair.size)
        return pair._replace(occluded=pair.flow.valid & ~known)


kitti = Composed(Kitti, FlowPreparation)
