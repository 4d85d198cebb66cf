"""What all predictions share: a trained model, and what answers for it in Python and into files."""

import abc
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import PyTree

from perceiver_io.models.architectures import Architecture
from perceiver_io.models.normalization import normalized


class Trained(NamedTuple):
    """A model with its weights.

    Attributes:
        model: its functions.
        params: its parameters.
        state: its state, such as the statistics of batch norm.
        section: the config section that `model` was built from.
        class_names: the names of its classes, where they are known.
        preparation: how inputs are prepared, as `Dataset.for_prediction` tells.
    """

    model: Architecture
    params: PyTree
    state: PyTree
    section: Mapping[str, Any]
    class_names: Sequence[str] | None = None
    preparation: Mapping[str, Any] = MappingProxyType({"normalization": None})


class Report(NamedTuple):
    """What was written, as text for people and as an object for `predictions.json`."""

    text: str
    summary: dict[str, Any]


class Predictor(abc.ABC):
    """What a task makes of a trained model: `predict` answers in Python, `write` into files.

    Both compute the same numbers, by the same functions. Which arguments they take is the task's
    own; the keywords of `write` are the flags of `experiments.predict`.

    Attributes:
        trained: the model, for inputs as they are prepared.
    """

    def __init__(self, trained: Trained):
        model = normalized(trained.model, trained.preparation["normalization"])
        self.trained = trained._replace(model=model)

    @classmethod
    def takes(cls, inputs: PyTree, outputs: PyTree) -> bool:
        """Whether a published model is one of the task's, by the shapes and types of one example.

        By default none is. A run says itself of which task it is.

        Args:
            inputs: `jax.ShapeDtypeStruct`s [1, ...] of what the model takes.
            outputs: those of what it gives.
        """
        del inputs, outputs
        return False

    @abc.abstractmethod
    def predict(self, *arguments: Any, **settings: Any) -> Any:
        """The answers as arrays."""

    @abc.abstractmethod
    def write(self, output: Path, **settings: Any) -> Report:
        """Answers for files, written into the folder `output` together with pictures of them."""


def is_array(spec: PyTree, axes: int, kind: DTypeLike = jnp.floating) -> bool:
    """Whether a spec is of one array with so many axes, and with numbers of this kind."""
    return (
        isinstance(spec, jax.ShapeDtypeStruct)
        and len(spec.shape) == axes
        and jnp.issubdtype(spec.dtype, kind)
    )
