"""CIFAR-10: 60,000 images of 32 by 32 pixels in 10 classes (Krizhevsky 2009)."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

from perceiver_io.data.vision.tfds_images import TfdsImageDataset


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cifar10(TfdsImageDataset):
    """TFDS `cifar10`.

    Splits: train 50,000 and test 10,000 images; for tuning without a look at test, train_reduced
    and held_out, which are train without its last 5,000 images, and these.
    """

    tfds_name: ClassVar[str] = "cifar10"
    tfds_splits: ClassVar[Mapping[str, str]] = {
        "train": "train",
        "test": "test",
        "train_reduced": "train[:-5000]",
        "held_out": "train[-5000:]",
    }
    num_classes: ClassVar[int] = 10
    preparation: ClassVar[str] = "TFDS downloads CIFAR-10 (170 MB) itself."
