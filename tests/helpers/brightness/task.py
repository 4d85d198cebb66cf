"""Brightness of images: a small task that uses everything a task can define."""

import dataclasses
from typing import ClassVar

import jax.numpy as jnp

from perceiver_io.losses import sum_and_count
from perceiver_io.tasks.task import Task
from tests.helpers.brightness.evaluation import FlatImages


@dataclasses.dataclass(frozen=True)
class Brightness(Task):
    """Predicts the mean of an image's values, from 0 to 1.

    Attributes:
        tolerance: greatest error of a right answer.
    """

    tolerance: float

    datasets: ClassVar = {"digits": "perceiver_io.data.vision.digits.digits"}

    def model_inputs(self, batch):
        return {"inputs": batch["image"]}

    def loss_masks(self, batch):
        return {"loss": jnp.asarray(batch["valid"])}

    def losses(self, outputs, batch):
        return {"loss": jnp.square(_error(outputs, batch))}

    def metrics(self, outputs, batch):
        is_right = jnp.abs(_error(outputs, batch)) <= self.tolerance
        return {"right": sum_and_count(is_right, batch["valid"])}

    def evaluators(self, config):
        """One for each split, and `flat` for uniform images."""
        return super().evaluators(config) | {"flat": FlatImages()}


def _error(outputs, batch):
    return outputs[:, 0] - jnp.mean(batch["image"] / 255, axis=(1, 2, 3))
