"""ImageNet of the challenge of 2012 (ILSVRC2012): 1000 classes, 1.28 million photographs."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

from perceiver_io.data.vision.imagenet_classes import imagenet_class_names
from perceiver_io.data.vision.tfds_images import TfdsImageDataset


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageNet(TfdsImageDataset):
    """TFDS `imagenet2012`. Published accuracies are of `validation`, after training on `train`.

    Splits: train 1,281,167 and validation 50,000 images; for tuning without a look at validation,
    train_reduced and held_out, which are train without its last 10,000 images, and these.
    """

    tfds_name: ClassVar[str] = "imagenet2012"
    tfds_splits: ClassVar[Mapping[str, str]] = {
        "train": "train",
        "validation": "validation",
        "train_reduced": "train[:-10000]",
        "held_out": "train[-10000:]",
    }
    num_classes: ClassVar[int] = 1000
    preparation: ClassVar[str] = (
        "Download ILSVRC2012_img_train.tar (138 GB) and ILSVRC2012_img_val.tar (6.3 GB) from "
        "https://image-net.org, which asks for registration, into ROOT/downloads/manual/, where "
        "ROOT is the data_dir below."
    )

    @property
    def class_names(self) -> tuple[str, ...]:
        """Words for the classes, of which TFDS has WordNet's identifiers only."""
        return imagenet_class_names()
