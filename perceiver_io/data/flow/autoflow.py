"""AutoFlow: rendered moving layers, optimised for training flow (Sun et al. 2021, 2104.14544)."""

import dataclasses
import functools
import hashlib
import pathlib
from collections.abc import Sequence
from typing import ClassVar

from perceiver_io.config.annotations import Rate
from perceiver_io.data.flow.folders import FlowFolder, NamedPairs, Release, read_pair, subfolders
from perceiver_io.data.flow.pair import FlowPair
from perceiver_io.data.flow.pairs import FlowPreparation
from perceiver_io.data.pipeline.dataset import Composed

_RELEASE = Release(
    download="static_40k_png_1_of_4.zip to static_40k_png_4_of_4.zip",
    page="https://autoflow-google.github.io",
    layout=tuple(
        f"static_40k_png_1_of_4/table_0_batch_0/{name}"
        for name in ("im0.png", "im1.png", "forward.flo")
    ),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class AutoFlow(FlowFolder):
    """The public pairs of AutoFlow: 40,000 of 448x576 pixels in four parts, not all of them needed.

    Backward flow and occlusions are not known.

    Attributes:
        validation_share: approximate fraction of the pairs, in [0, 1), held out for the split
            validation. The choice depends only on their names.
    """

    validation_share: Rate

    splits: ClassVar[tuple[str, ...]] = ("train", "validation")

    def __call__(self, split: str) -> Sequence[FlowPair]:
        """The split's pairs. Raises UserError where the folder has none."""
        held_out = split == "validation"
        names = [
            name
            for name in _names(self.folder)
            if (_position(name) < self.validation_share) == held_out
        ]
        return NamedPairs(names, self._read)

    def _read(self, name: str) -> FlowPair:
        folder = self.folder / name
        return read_pair(
            name,
            _RELEASE,
            first=folder / "im0.png",
            second=folder / "im1.png",
            flow=folder / "forward.flo",
            backward=None,
        )


autoflow = Composed(AutoFlow, FlowPreparation)


@functools.lru_cache
def _names(root: pathlib.Path) -> tuple[str, ...]:
    """part/pair of every pair."""
    parts = [x for x in subfolders(_RELEASE.existing(root)) if x.name.startswith("static_")]
    names = tuple(f"{part.name}/{pair.name}" for part in parts for pair in subfolders(part))
    if not names:
        raise _RELEASE.missing(root / "static_40k_png_1_of_4" / "table_0_batch_0")
    return names


def _position(name: str) -> float:
    """An arbitrary number from 0 to 1 that depends only on the last part of the name."""
    digest = hashlib.sha256(name.rpartition("/")[2].encode()).digest()
    return int.from_bytes(digest[:8]) / 2**64
