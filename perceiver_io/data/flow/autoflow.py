"""AutoFlow: rendered layers in motion, learned to train optical flow (Sun et al., 2104.14544)."""

import dataclasses
import functools
import hashlib
import pathlib
from collections.abc import Sequence
from typing import ClassVar

from perceiver_io.data.flow.folders import FlowFolder, NamedPairs, Release, read_pair, subfolders
from perceiver_io.data.flow.pair import FlowPair
from perceiver_io.data.flow.pairs import FlowPreparation
from perceiver_io.data.pipeline.dataset import Composed
from perceiver_io.errors import UserError

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
    """The public pairs of AutoFlow: 40,000 of 448x576 pixels in four parts, or some of the parts.

    Flow back and occlusion are not known.

    Attributes:
        validation_share: about this share of the pairs, from 0 to below 1, is kept from training
            for the split validation. Which ones depends on their names alone.
    """

    validation_share: float

    splits: ClassVar[tuple[str, ...]] = ("train", "validation")

    def __post_init__(self) -> None:
        if not 0 <= self.validation_share < 1:
            raise UserError(
                f"validation_share={self.validation_share} must be at least 0 and below 1: the "
                "share of the pairs that is not trained with."
            )

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
    """An arbitrary number from 0 to 1 that depends on the last part of the name alone."""
    digest = hashlib.sha256(name.rpartition("/")[2].encode()).digest()
    return int.from_bytes(digest[:8]) / 2**64
