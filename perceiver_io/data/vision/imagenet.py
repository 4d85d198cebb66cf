"""ImageNet of the 2012 challenge (ILSVRC2012): 1.28 million photographs of 1000 classes."""

from perceiver_io.data.pipeline.dataset import Composed
from perceiver_io.data.vision.imagenet_classes import imagenet_class_names
from perceiver_io.data.vision.images import PhotographPreparation
from perceiver_io.data.vision.tfds_images import TfdsImages


def imagenet_images(root: str) -> TfdsImages:
    """TFDS `imagenet2012`; `root` is the data_dir.

    Splits: train (1,281,167 images) and validation (50,000), on which published accuracies are
    measured; for tuning without looking at validation, held_out (the last 10,000 images of train)
    and train_reduced (the others).
    """
    return TfdsImages(
        root=root,
        name="imagenet2012",
        tfds_splits={
            "train": "train",
            "validation": "validation",
            "train_reduced": "train[:-10000]",
            "held_out": "train[-10000:]",
        },
        # TFDS has only the WordNet identifiers.
        class_names=imagenet_class_names(),
        how_to_get=(
            "Download ILSVRC2012_img_train.tar (138 GB) and ILSVRC2012_img_val.tar (6.3 GB) from "
            "https://image-net.org, which asks for registration, into ROOT/downloads/manual/, "
            "where ROOT is the data_dir below."
        ),
    )


imagenet = Composed(imagenet_images, PhotographPreparation)
