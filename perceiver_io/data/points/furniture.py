"""Clouds of furniture, bundled with the project; see bundled/furniture/ORIGIN.md."""

import functools
import pathlib
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from perceiver_io.data.pipeline.dataset import Composed
from perceiver_io.data.pipeline.sources import Source
from perceiver_io.data.points.clouds import Cloud, CloudPreparation

_CLOUDS = pathlib.Path(__file__).parents[1] / "bundled" / "furniture" / "furniture.npz"


class Furniture(Source):
    """366 clouds of 1024 points of 11 kinds, in metres, z up.

    Splits: train 225, validation 52, test 89; meshes that are nearly the same are in one split.
    """

    splits: ClassVar[tuple[str, ...]] = ("train", "validation", "test")
    class_names: ClassVar[tuple[str, ...]] = (
        "bed",
        "cabinet",
        "chair",
        "door",
        "lamp",
        "person",
        "plant",
        "sofa",
        "table",
        "vehicle",
        "vessel",
    )

    def __call__(self, split: str) -> Sequence[Cloud]:
        """All clouds of the split, in memory."""
        return _read()[split]


furniture = Composed(Furniture, CloudPreparation)


@functools.cache
def _read() -> dict[str, list[Cloud]]:
    splits: dict[str, list[Cloud]] = {split: [] for split in Furniture.splits}
    with np.load(_CLOUDS) as arrays:
        rows = zip(*(arrays[key] for key in ("points", "label", "split", "name")), strict=True)
        for index, (points, label, split, name) in enumerate(rows):
            number = Furniture.class_names.index(label)
            cloud = Cloud(points.astype(np.float32), number, f"{name} ({index})")
            splits[str(split)].append(cloud)
    return splits
