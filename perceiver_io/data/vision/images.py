"""Labelled images: preparation as input of a classifier, and augmentation of photographs."""

import dataclasses
import functools
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from perceiver_io.config.annotations import (
    ASCENDING,
    INPUT_SIZE,
    Finite,
    Fraction,
    NonNegative,
    Normalization,
    Positive,
    Size,
    within,
)
from perceiver_io.config.imagenet import IMAGENET
from perceiver_io.data.pipeline.dataset import Example, Preparation, Spec
from perceiver_io.data.vision import crop, mixing, randaugment
from perceiver_io.errors import UserError

Resample = Literal["bilinear", "bicubic"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageInput:
    """How an image of any size becomes the input of a classifier, in evaluation and prediction.

    Attributes:
        image_shape: height, width, channels.
        mean: of each channel, for values from 0 to 1; the model subtracts it, on the device.
        std: which it then divides by.
        evaluation_crop: side of the central crop relative to that of the largest one that fits.
        resample: how pixels are interpolated where the crop is resized.
        whole_pixels: whether a square crop of whole pixels is cut out of the full image before it
            is resized, as transformers does. By default a crop may begin within a pixel, and large
            JPEGs are decoded at no more resolution than is needed.
    """

    image_shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    evaluation_crop: float
    resample: Resample
    whole_pixels: bool = False

    def __post_init__(self) -> None:
        channels = self.image_shape[-1]
        for name in ("mean", "std"):
            values = getattr(self, name)
            if len(values) != channels:
                raise UserError(
                    f"{name}={tuple(values)} must have one number for each of {channels} channels."
                )

    def __call__(self, data: bytes, name: str) -> UInt8[np.ndarray, "H W C"]:
        """The central crop of an encoded image; `name` is for error messages.

        Raises UserError when it cannot be decoded.
        """
        return self._pixels(
            crop.decode_crop(
                data,
                name=name,
                choose_box=self.box,
                size=self.image_shape[:2],
                resample=RESAMPLING[self.resample],
                crop_first=self.whole_pixels,
            )
        )

    def of_image(self, image: Image.Image) -> UInt8[np.ndarray, "H W C"]:
        """The central crop of a decoded image."""
        box, size, resample = self.box(*image.size), self.image_shape[:2], RESAMPLING[self.resample]
        return self._pixels(crop.resize_box(image, box, size, resample, self.whole_pixels))

    def box(self, width: int, height: int) -> crop.Box:
        """The part that the model sees of an image of this size."""
        if self.whole_pixels:
            return crop.central_square(width, height, fraction=self.evaluation_crop)
        aspect = self.image_shape[1] / self.image_shape[0]
        return crop.central_box(width, height, fraction=self.evaluation_crop, aspect=aspect)

    def _pixels(self, image: Image.Image) -> UInt8[np.ndarray, "H W C"]:
        mode = "L" if self.image_shape[2] == 1 else "RGB"
        return np.asarray(image.convert(mode)).reshape(self.image_shape)


RESAMPLING = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


class EncodedImage(NamedTuple):
    """A compressed image file in memory, its label, and its name for error messages."""

    data: bytes
    label: int
    name: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class PhotographPreparation(Preparation):
    """`EncodedImage`s, cropped and, in training, augmented.

    The defaults are those of the papers' ImageNet training.

    An example has `image` [H, W, 3], from 0 to 255, and `label`. With MixUp or CutMix, which are
    applied on the device, it also has `mixup_weight` and `cutmix_box`, see
    `perceiver_io.data.vision.mixing`.

    Attributes:
        image_size: (height, width) of the result, in pixels.
        training_sizes: if not empty, those of training batches instead, in turns; one that is
            repeated gets several turns.
        mean: of each channel, for values from 0 to 1; the model subtracts it.
        std: which it then divides by.
        crop_area: least and greatest share of the image that a training crop covers.
        crop_aspect: least and greatest aspect ratio, width / height, of a training crop.
        evaluation_crop: side of the central evaluation crop relative to the largest one that fits.
        flip: mirror half of the training images, left to right.
        randaugment_layers: number of RandAugment operations applied to each training image.
        randaugment_magnitude: their strength, usually 0 to 10.
        mixup_alpha: MixUp weights are Beta(alpha, alpha) distributed; 0: no MixUp.
        cutmix_alpha: CutMix areas are Beta(alpha, alpha) distributed; 0: no CutMix. With both, each
            pair of examples uses one of the two with equal probability.
        resample: how pixels are interpolated where crops are resized.
    """

    image_size: Annotated[Size, INPUT_SIZE]
    training_sizes: tuple[Size, ...] = ()
    mean: tuple[Finite, ...] = IMAGENET["mean"]
    std: tuple[Positive, ...] = IMAGENET["std"]
    crop_area: Annotated[tuple[Fraction, Fraction], ASCENDING] = (0.08, 1.0)
    crop_aspect: Annotated[tuple[Positive, Positive], ASCENDING] = (3 / 4, 4 / 3)
    evaluation_crop: Fraction = IMAGENET["evaluation_crop"]
    flip: bool = True
    randaugment_layers: Annotated[int, within(0, 100)] = 4
    randaugment_magnitude: NonNegative = 5.0
    mixup_alpha: NonNegative = 0.2
    cutmix_alpha: NonNegative = 0.2
    resample: Resample = "bilinear"

    def __post_init__(self) -> None:
        self._input  # noqa: B018  # Fails early on wrong settings.

    @property
    def normalization(self) -> Normalization:
        """`mean` and `std`."""
        return self.mean, self.std

    @functools.cached_property
    def _input(self) -> ImageInput:
        return ImageInput(
            image_shape=(*self.image_size, 3),
            mean=self.mean,
            std=self.std,
            evaluation_crop=self.evaluation_crop,
            resample=self.resample,
        )

    @property
    def _mixes(self) -> bool:
        return self.mixup_alpha > 0 or self.cutmix_alpha > 0

    def in_training(self) -> "tuple[PhotographPreparation, ...]":
        """One for each of `training_sizes`."""
        sizes = self.training_sizes or (self.image_size,)
        return tuple(
            dataclasses.replace(self, image_size=size, training_sizes=()) for size in sizes
        )

    def training_example(self, raw: EncodedImage, rng: np.random.Generator) -> Example:
        """A random crop, then RandAugment, then perhaps a flip."""
        box = functools.partial(
            crop.random_box, area=self.crop_area, aspect=self.crop_aspect, rng=rng
        )
        image = crop.decode_crop(
            raw.data,
            name=raw.name,
            choose_box=box,
            size=self.image_size,
            resample=RESAMPLING[self.resample],
        )
        image = randaugment.rand_augment(
            image,
            num_layers=self.randaugment_layers,
            magnitude=self.randaugment_magnitude,
            rng=rng,
        )
        pixels = np.asarray(image)
        if self.flip and rng.random() < 0.5:
            pixels = pixels[:, ::-1]
        example = {"image": pixels, "label": np.int32(raw.label)}
        if self._mixes:
            example |= mixing.draw(
                np.random.default_rng(int(rng.integers(2**63))),
                self.image_size,
                mixup_alpha=self.mixup_alpha,
                cutmix_alpha=self.cutmix_alpha,
            )
        return example

    def evaluation_example(self, raw: EncodedImage, rng: np.random.Generator) -> Example:
        """The central crop."""
        del rng
        example = {"image": self._input(raw.data, raw.name), "label": np.int32(raw.label)}
        return example | (mixing.UNMIXED if self._mixes else {})

    def example_spec(self) -> Spec:
        """`image` [H, W, 3] uint8, `label` int32, and the parameters of mixing."""
        image = {"image": ((*self.image_size, 3), np.dtype(np.uint8))}
        return image | LABEL_SPEC | (mixing.SPEC if self._mixes else {})

    def for_prediction(self) -> dict[str, Any]:
        """The fields of `ImageInput`."""
        return dataclasses.asdict(self._input)


LABEL_SPEC: Spec = {"label": ((), np.dtype(np.int32))}
