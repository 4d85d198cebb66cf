"""Handwritten digits: the 1797 images of 8x8 pixels that come with scikit-learn."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, NamedTuple

import numpy as np
from scipy import ndimage
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from perceiver_io.config.annotations import Finite, Normalization, Positive, Rate, within
from perceiver_io.data.pipeline.dataset import Composed, Example, Preparation, Spec
from perceiver_io.data.pipeline.sources import Source
from perceiver_io.data.vision.images import LABEL_SPEC, ImageInput

_SIZES = {"train": 1197, "validation": 240, "test": 360}


class _Digit(NamedTuple):
    image: np.ndarray
    label: int


class Digits(Source):
    """Digits in fixed splits, stratified by class: train 1197, validation 240, test 360."""

    splits: ClassVar[tuple[str, ...]] = tuple(_SIZES)
    class_names: ClassVar[tuple[str, ...]] = tuple("0123456789")

    def __call__(self, split: str) -> Sequence[_Digit]:
        """Images with values from 0 to 255, and their labels."""
        return _read()[split]


@dataclasses.dataclass(frozen=True, kw_only=True)
class DigitPreparation(Preparation):
    """Images [8, 8, 1]; in training a random affine map about the centre is applied.

    They stay float32, since their 17 grey levels are not integers on the scale 0 to 255.

    Attributes:
        mean: subtracted by the model, for values from 0 to 1.
        std: by which the model then divides.
        max_shift: greatest shift along either axis, in pixels.
        max_rotation: greatest rotation in either direction, in degrees.
        max_zoom: greatest relative enlargement or reduction.
    """

    mean: tuple[Finite, ...]
    std: tuple[Positive, ...]
    max_shift: Annotated[float, within(0, 8)] = 0.0
    max_rotation: Annotated[float, within(0, 180)] = 0.0
    max_zoom: Rate = 0.0

    def __post_init__(self) -> None:
        self.for_prediction()  # Fails early on wrong settings.

    @property
    def normalization(self) -> Normalization:
        """`mean` and `std`."""
        return self.mean, self.std

    def training_example(self, raw: _Digit, rng: np.random.Generator) -> Example:
        """The digit rotated, zoomed and shifted, bilinearly interpolated and padded with zeros."""
        angle = np.deg2rad(rng.uniform(-self.max_rotation, self.max_rotation))
        zoom = 1 + rng.uniform(-self.max_zoom, self.max_zoom)
        shift = rng.uniform(-self.max_shift, self.max_shift, size=2)
        matrix = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) / zoom
        centre = (np.array(raw.image.shape) - 1) / 2
        # From a position in the result to one in the original.
        offset = centre - matrix @ (centre + shift)
        moved = ndimage.affine_transform(raw.image, matrix, offset, order=1)
        return {"image": moved[..., None], "label": np.int32(raw.label)}

    def evaluation_example(self, raw: _Digit, rng: np.random.Generator) -> Example:
        """The digit as it is."""
        del rng
        return {"image": raw.image[..., None], "label": np.int32(raw.label)}

    def example_spec(self) -> Spec:
        """`image` [8, 8, 1] float32, `label` int32."""
        return {"image": ((8, 8, 1), np.dtype(np.float32))} | LABEL_SPEC

    def for_prediction(self) -> dict[str, Any]:
        """The fields of `ImageInput`."""
        return dataclasses.asdict(
            ImageInput(
                image_shape=(8, 8, 1),
                mean=self.mean,
                std=self.std,
                evaluation_crop=1.0,
                resample="bilinear",
            )
        )


digits = Composed(Digits, DigitPreparation)


@functools.cache
def _read() -> dict[str, tuple[_Digit, ...]]:
    bunch = load_digits()
    # The original values are 0 to 16.
    images = (bunch.images * (255 / 16)).astype(np.float32)
    rest, test = train_test_split(
        np.arange(len(images)), test_size=_SIZES["test"], stratify=bunch.target, random_state=0
    )
    train, validation = train_test_split(
        rest, test_size=_SIZES["validation"], stratify=bunch.target[rest], random_state=0
    )
    rows = {"train": train, "validation": validation, "test": test}
    return {
        split: tuple(_Digit(images[i], int(bunch.target[i])) for i in indices)
        for split, indices in rows.items()
    }
