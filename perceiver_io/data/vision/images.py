"""Labelled images: what all image classification sets share, and how photographs are augmented."""

import abc
import dataclasses
import functools
from collections.abc import Sequence
from typing import Annotated, NamedTuple

import grain
import numpy as np
from jaxtyping import Float, UInt8

from perceiver_io.config.annotations import (
    ASCENDING,
    INPUT_SIZE,
    Fraction,
    Natural,
    NonNegative,
    Positive,
    Size,
)
from perceiver_io.data.pipeline.dataset import Batch, BatchSpec, Dataset, Example
from perceiver_io.data.vision import crop, mixing, randaugment
from perceiver_io.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageDataset(Dataset):
    """Images of one size, each of one class.

    A batch has `image` [B, H, W, C] float32, normalised; `label` [B, num_classes] float32, each row
    summing to 1 (one-hot unless mixed); `valid` [B] bool. The example functions give `image`
    [H, W, C] with values from 0 to 255, and an integer `label`.

    Attributes:
        mean: subtracted from each channel, where channel values go from 0 to 1.
        std: then divided by.
    """

    mean: tuple[float, ...]
    std: tuple[Positive, ...]

    @property
    @abc.abstractmethod
    def class_names(self) -> tuple[str, ...]:
        """Name of each class, by label."""

    @property
    def num_classes(self) -> int:
        """Width of a label."""
        return len(self.class_names)

    @property
    @abc.abstractmethod
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width, channels."""

    def __post_init__(self) -> None:
        channels = self.image_shape[-1]
        for name in ("mean", "std"):
            values = getattr(self, name)
            if len(values) != channels:
                raise UserError(
                    f"{name}={tuple(values)} must have one number for each of {channels} channels."
                )

    def batch_spec(self, batch_size: int) -> BatchSpec:
        """Specification of `image`, `label` and `valid`."""
        return {
            "image": ((batch_size, *self.image_shape), np.dtype(np.float32)),
            "label": ((batch_size, self.num_classes), np.dtype(np.float32)),
            "valid": ((batch_size,), np.dtype(bool)),
        }

    def collate(self, examples: Sequence[Example], *, training: bool) -> Batch:
        """Normalised images and one-hot labels."""
        height, width, channels = self.image_shape
        std = np.asarray(self.std, np.float32)
        # Over whole rows of pixels, since NumPy is slow along an axis as short as the channels; and
        # one image at a time, which then stays in the processor's cache.
        scale = np.tile(1 / (255 * std), width)
        offset = np.tile(-np.asarray(self.mean, np.float32) / std, width)
        image = np.empty((len(examples), height, width * channels), np.float32)
        for example, rows in zip(examples, image, strict=True):
            np.multiply(example["image"].reshape(rows.shape), scale, out=rows)
            rows += offset
        image = image.reshape(-1, height, width, channels)
        label = np.zeros((len(examples), self.num_classes), np.float32)
        label[np.arange(len(examples)), [example["label"] for example in examples]] = 1
        return {"image": image, "label": label}

    def to_display(self, image: Float[np.ndarray, "... H W C"]) -> UInt8[np.ndarray, "... H W C"]:
        """Undoes the normalisation: values from 0 to 255."""
        scaled = (image * np.asarray(self.std) + np.asarray(self.mean)) * 255
        return np.clip(np.rint(scaled), 0, 255).astype(np.uint8)


class EncodedImage(NamedTuple):
    """A compressed image file in memory, its label, and its name for error messages."""

    data: bytes
    label: int
    name: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class EncodedImageDataset(ImageDataset):
    """Photographs as compressed files, cropped, augmented and mixed. `source` gives EncodedImages.

    Attributes:
        image_size: (height, width) of the result, in pixels.
        crop_area: least and greatest share of the image that a training crop covers.
        crop_aspect: least and greatest aspect ratio, width / height, of a training crop.
        evaluation_crop: side of the central evaluation crop over that of the largest one that fits.
        flip: mirror half of the training images, left to right.
        randaugment_layers: RandAugment operations applied to each training image; 0: none.
        randaugment_magnitude: their strength, usually 0 to 10.
        mixup_alpha: MixUp weights are Beta(alpha, alpha) distributed; 0: no MixUp.
        cutmix_alpha: CutMix areas are Beta(alpha, alpha) distributed; 0: no CutMix. With both, each
            pair of examples takes one of the two with equal probability.
    """

    image_size: Annotated[Size, INPUT_SIZE]
    crop_area: Annotated[tuple[Fraction, Fraction], ASCENDING]
    crop_aspect: Annotated[tuple[Positive, Positive], ASCENDING]
    evaluation_crop: Fraction
    flip: bool
    randaugment_layers: Natural
    randaugment_magnitude: NonNegative
    mixup_alpha: NonNegative
    cutmix_alpha: NonNegative

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width, 3."""
        return (*self.image_size, 3)

    def training_example(self, raw: EncodedImage, rng: np.random.Generator) -> Example:
        """A random crop, then RandAugment, then perhaps a flip."""
        box = functools.partial(
            crop.random_box, area=self.crop_area, aspect=self.crop_aspect, rng=rng
        )
        image = crop.decode_crop(raw.data, name=raw.name, choose_box=box, size=self.image_size)
        image = randaugment.rand_augment(
            image,
            num_layers=self.randaugment_layers,
            magnitude=self.randaugment_magnitude,
            rng=rng,
        )
        pixels = np.asarray(image)
        if self.flip and rng.random() < 0.5:
            pixels = pixels[:, ::-1]
        return {"image": pixels, "label": raw.label, "mixing_seed": int(rng.integers(2**63))}

    def evaluation_example(self, raw: EncodedImage) -> Example:
        """The central crop."""
        height, width = self.image_size
        box = functools.partial(
            crop.central_box, fraction=self.evaluation_crop, aspect=width / height
        )
        image = crop.decode_crop(raw.data, name=raw.name, choose_box=box, size=self.image_size)
        return {"image": np.asarray(image), "label": raw.label}

    def load(
        self, split: str, *, batch_size: int, training: bool, seed: int, shard: tuple[int, int]
    ) -> grain.IterDataset[Batch]:
        """As of every dataset. Raises UserError also when mixing finds no pairs in a batch."""
        if training and self._mixes and batch_size % 2:
            raise UserError(
                f"A batch of {batch_size} examples on each process cannot be mixed, since MixUp "
                "and CutMix take two at a time; choose config.training.batch_size so that it is "
                "even, or set config.data.mixup_alpha and cutmix_alpha to 0."
            )
        return super().load(split, batch_size=batch_size, training=training, seed=seed, shard=shard)

    @property
    def _mixes(self) -> bool:
        return self.mixup_alpha > 0 or self.cutmix_alpha > 0

    def collate(self, examples: Sequence[Example], *, training: bool) -> Batch:
        """Normalised images and labels; in training, neighbours mixed by MixUp or CutMix."""
        batch = super().collate(examples, training=training)
        if training and self._mixes:
            mixing.mix_pairs(
                batch["image"],
                batch["label"],
                mixup_alpha=self.mixup_alpha,
                cutmix_alpha=self.cutmix_alpha,
                pair_seeds=[example["mixing_seed"] for example in examples[::2]],
            )
        return batch
