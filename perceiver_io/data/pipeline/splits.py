"""How the data in a folder is split: by sub-folders, or deterministically by fractions."""

import hashlib
import pathlib
from collections.abc import Sequence
from typing import Annotated, TypeVar

from perceiver_io.config.annotations import SUM_OF_ONE, Probability
from perceiver_io.errors import UserError

T = TypeVar("T")

# Possible names of the folder of each split.
_SPLITS = {"train": ("train",), "validation": ("validation", "val", "valid"), "test": ("test",)}

Fractions = Annotated[tuple[Probability, Probability, Probability], SUM_OF_ONE]
"""The fractions of train, validation and test."""


def split_folders(root: pathlib.Path) -> dict[str, pathlib.Path]:
    """The folders root/train, root/validation (or val, or valid) and root/test, if they exist.

    Empty without a folder `train`. Raises UserError about two folders for one split.
    """
    if not (root / "train").is_dir():
        return {}
    folders = {}
    for split, names in _SPLITS.items():
        there = [root / name for name in names if (root / name).is_dir()]
        if len(there) > 1:
            raise UserError(
                f"{there[0]} and {there[1]} are both for the split {split}: keep one of them."
            )
        if there:
            folders[split] = there[0]
    return folders


def nonempty_splits(fractions: Fractions) -> tuple[str, ...]:
    """The splits that are to get anything."""
    return tuple(split for split, part in zip(_SPLITS, fractions, strict=True) if part > 0)


def share(ordered: Sequence[T], split: str, fractions: Fractions) -> Sequence[T]:
    """The part of a sequence that belongs to a split."""
    position = list(_SPLITS).index(split)
    start = round(sum(fractions[:position]) * len(ordered))
    stop = round(sum(fractions[: position + 1]) * len(ordered))
    return ordered[start:stop]


def in_share(key: bytes, share: float) -> bool:
    """Whether an example belongs to a share of all, which depends on its key alone."""
    return int.from_bytes(hashlib.sha256(key).digest()[:8]) / 2**64 < share
