"""The interface of predictors: a trained model that is used in Python or writes files."""

import abc
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import PyTree

from perceiver_io.errors import UserError
from perceiver_io.models.architectures import Architecture
from perceiver_io.models.normalization import normalized


class Trained(NamedTuple):
    """A model with its weights.

    Attributes:
        model: its functions.
        params: its parameters.
        state: its state, such as batch norm statistics.
        section: the config section that `model` was built from.
        class_names: the names of its classes, if known.
        preparation: how inputs are prepared, in the form of `Dataset.for_prediction`.
    """

    model: Architecture
    params: PyTree
    state: PyTree
    section: Mapping[str, Any]
    class_names: Sequence[str] | None = None
    preparation: Mapping[str, Any] = MappingProxyType({"normalization": None})

    def prepared(self, name: str) -> Any:
        """An entry of `preparation`. Raises UserError if it is missing."""
        if name not in self.preparation:
            raise UserError(
                f"The weights do not state how their inputs are prepared: {name} is missing in the "
                "preparation.json of their run, or in their config.json. Train or export them "
                "again, or take other weights."
            )
        return self.preparation[name]


class Report(NamedTuple):
    """What was written, as human-readable text and as an object for `predictions.json`."""

    text: str
    summary: dict[str, Any]


class Predictor(abc.ABC):
    """Predictions of a trained model: `predict` returns arrays, `write` writes files.

    Both compute the same numbers with the same functions. Each task defines its own arguments; the
    keyword arguments of `write` are the flags of `experiments.predict`.

    Attributes:
        trained: the model, for prepared inputs, and its weights.
    """

    def __init__(self, trained: Trained):
        model = normalized(trained.model, trained.preparation["normalization"])
        self.trained = trained._replace(model=model)

    @classmethod
    def takes(cls, inputs: PyTree, outputs: PyTree) -> bool:
        """Whether a published model is for this task, by the shapes and types of one example.

        By default none is. For runs, the task is known from their config.

        Args:
            inputs: `jax.ShapeDtypeStruct`s [1, ...] of the model's inputs.
            outputs: likewise of its outputs.
        """
        del inputs, outputs
        return False

    @abc.abstractmethod
    def predict(self, *arguments: Any, **settings: Any) -> Any:
        """The predictions, as arrays."""

    @abc.abstractmethod
    def write(self, output: Path, **settings: Any) -> Report:
        """Writes predictions for files, with figures of them, into the folder `output`."""


def is_array(spec: PyTree, axes: int, kind: DTypeLike = jnp.floating) -> bool:
    """Whether a spec describes a single array with this number of axes and kind of dtype."""
    return (
        isinstance(spec, jax.ShapeDtypeStruct)
        and len(spec.shape) == axes
        and jnp.issubdtype(spec.dtype, kind)
    )
