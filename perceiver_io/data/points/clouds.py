"""Labelled point clouds: preparation as input of a classifier, and augmentation."""

import dataclasses
import functools
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float

from perceiver_io.config.annotations import (
    ASCENDING,
    INPUT_SIZE,
    Length,
    NonNegative,
    Positive,
    within,
)
from perceiver_io.data.pipeline.dataset import Example, Preparation, Spec
from perceiver_io.errors import UserError

Up = Literal["y", "z"]
Range = Annotated[tuple[Positive, Positive], ASCENDING]


class Cloud(NamedTuple):
    """Points on a surface, a label, and a name for error messages."""

    points: Float[np.ndarray, "P 3"]
    label: int
    name: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class CloudInput:
    """How a cloud of any size becomes the input of a classifier, in evaluation and prediction.

    Attributes:
        num_points: how many of the cloud's points are used.
        up: which axis points upwards, for figures and rotations.
    """

    num_points: int
    up: Up

    def __call__(self, points: Float[np.ndarray, "P 3"], name: str) -> Float[np.ndarray, "N 3"]:
        """Points in a random order that is the same each time, normalised.

        Raises UserError for too few points; `name` is for the message.
        """
        return normalized(self.chosen(points, name, np.random.default_rng(0)), name)

    def chosen(
        self, points: Float[np.ndarray, "P 3"], name: str, rng: np.random.Generator
    ) -> Float[np.ndarray, "N 3"]:
        """Random points in a random order. Raises UserError if there are too few."""
        if len(points) < self.num_points:
            raise UserError(
                f"{name} has {len(points)} points, but {self.num_points} are needed: sample more, "
                "or train a model with a lower config.data.num_points and "
                "config.model.inputs.num_points."
            )
        order = rng.permutation(len(points))[: self.num_points]
        return np.asarray(points, np.float32)[order]


@dataclasses.dataclass(frozen=True, kw_only=True)
class CloudPreparation(Preparation):
    """`Cloud`s as `points` [num_points, 3] and `label`, with mean 0 and coordinates up to 1.

    The default augmentation is that of the Perceiver paper, section 4.3: each point is scaled by a
    factor of its own before the cloud is normalised. Other augmentations are applied in the order
    of the settings; the shift comes after normalisation.

    Attributes:
        num_points: of the result. In training, other points of a cloud are drawn each time.
        up: which axis points upwards.
        point_scale: least and greatest factor of a point.
        axis_scale: least and greatest factor of an axis, for the whole cloud.
        mirror: mirror half of the training clouds, left to right (along x).
        max_rotation: greatest rotation about the vertical axis in either direction, in degrees.
        max_shift: greatest shift along each axis, where 1 is the largest coordinate.
    """

    num_points: Annotated[Length, INPUT_SIZE] = 2048
    up: Up = "z"
    point_scale: Range = (0.99, 1.01)
    axis_scale: Range = (1.0, 1.0)
    mirror: bool = False
    max_rotation: Annotated[float, within(0, 180)] = 0.0
    max_shift: NonNegative = 0.0

    @functools.cached_property
    def _input(self) -> CloudInput:
        return CloudInput(num_points=self.num_points, up=self.up)

    def training_example(self, raw: Cloud, rng: np.random.Generator) -> Example:
        """Random points, augmented."""
        points = self._input.chosen(raw.points, raw.name, rng)
        points = points * rng.uniform(*self.point_scale, (len(points), 1))
        points = points * rng.uniform(*self.axis_scale, 3)
        if self.mirror and rng.random() < 0.5:
            points = points * [-1, 1, 1]
        angle = np.deg2rad(rng.uniform(-self.max_rotation, self.max_rotation))
        points = normalized(turned(points, angle, self.up), raw.name)
        points = points + rng.uniform(-self.max_shift, self.max_shift, 3)
        return {"points": points.astype(np.float32), "label": np.int32(raw.label)}

    def evaluation_example(self, raw: Cloud, rng: np.random.Generator) -> Example:
        """Points as `CloudInput` chooses them."""
        del rng
        return {"points": self._input(raw.points, raw.name), "label": np.int32(raw.label)}

    def example_spec(self) -> Spec:
        """`points` [num_points, 3] float32, `label` int32."""
        return {
            "points": ((self.num_points, 3), np.dtype(np.float32)),
            "label": ((), np.dtype(np.int32)),
        }

    def for_prediction(self) -> dict[str, Any]:
        """The fields of `CloudInput`."""
        return dataclasses.asdict(self._input)


@dataclasses.dataclass(frozen=True)
class AugmentedCopies(Preparation):
    """Several augmented copies of each evaluated cloud: `points` [copies, num_points, 3].

    Attributes:
        preparation: augments a copy as in training.
        copies: how many.
    """

    preparation: Preparation
    copies: int

    def training_example(self, raw: Cloud, rng: np.random.Generator) -> Example:
        """As in evaluation."""
        return self.evaluation_example(raw, rng)

    def evaluation_example(self, raw: Cloud, rng: np.random.Generator) -> Example:
        """The copies, and the label."""
        copies = [self.preparation.training_example(raw, rng) for _ in range(self.copies)]
        return copies[0] | {"points": np.stack([copy["points"] for copy in copies])}

    def example_spec(self) -> Spec:
        """That of a cloud, with an axis for the copies before its points."""
        spec = self.preparation.example_spec()
        shape, dtype = spec["points"]
        return spec | {"points": ((self.copies, *shape), dtype)}


def normalized(points: Float[np.ndarray, "P 3"], name: str) -> Float[np.ndarray, "P 3"]:
    """Moves the mean to 0 and the largest absolute coordinate to 1.

    Raises UserError for points that are not finite, or all the same.
    """
    centred = points - points.mean(0)
    largest = np.abs(centred).max()
    if not 0 < largest < np.inf:
        raise UserError(
            f"{name} has points that are not finite, or only one place: replace or remove it."
        )
    return (centred / largest).astype(np.float32)


def turned(points: Float[np.ndarray, "P 3"], angle: float, up: Up) -> Float[np.ndarray, "P 3"]:
    """Rotates points about the vertical axis, by an angle in radians."""
    first, second = (0, 1) if up == "z" else (2, 0)
    result = points.copy()
    result[:, first] = np.cos(angle) * points[:, first] - np.sin(angle) * points[:, second]
    result[:, second] = np.sin(angle) * points[:, first] + np.cos(angle) * points[:, second]
    return result
