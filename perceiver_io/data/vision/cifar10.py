"""CIFAR-10: 60,000 images of 32 by 32 pixels in 10 classes (Krizhevsky 2009)."""

from perceiver_io.data.pipeline.dataset import Composed
from perceiver_io.data.vision.images import PhotographPreparation
from perceiver_io.data.vision.tfds_images import TfdsImages

_CLASSES = "airplane automobile bird cat deer dog frog horse ship truck"


def cifar10_images(root: str) -> TfdsImages:
    """TFDS `cifar10`; `root` is the data_dir.

    Splits: train (50,000 images) and test (10,000); for tuning without looking at test, held_out
    (the last 5,000 images of train) and train_reduced (the others).
    """
    return TfdsImages(
        root=root,
        name="cifar10",
        tfds_splits={
            "train": "train",
            "test": "test",
            "train_reduced": "train[:-5000]",
            "held_out": "train[-5000:]",
        },
        class_names=tuple(_CLASSES.split()),
        how_to_get="TFDS downloads CIFAR-10 (170 MB) itself.",
    )


cifar10 = Composed(cifar10_images, PhotographPreparation)
