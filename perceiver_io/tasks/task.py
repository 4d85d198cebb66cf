"""The interface of a task: what is asked of a model's outputs, and how the answer is judged."""

import abc
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Array
from matplotlib.figure import Figure

from perceiver_io.data.pipeline.dataset import Dataset

Batch = Mapping[str, Array | np.ndarray]


class Task(abc.ABC):
    """A loss, its metrics, its pictures and the datasets that it can be trained or measured on.

    Subclasses are frozen dataclasses whose fields are the keys of `config.task`, without `name`.
    A batch is a dict of arrays with a leading example axis. Its entry `valid` [B] (bool) is False
    for the examples that only fill up the last batch of an evaluation; they count nowhere.
    `loss_masks`, `losses`, `metrics` and `predictions` are traced by JAX; `report` and `figure` run
    on the host.

    The loss is L = sum over its terms of weight * S / C, where S adds up the losses of the elements
    that a term covers, and C counts them over the whole batch of a step, or over a whole split; see
    `perceiver_io.losses`.
    """

    datasets: ClassVar[Mapping[str, Callable[..., Dataset]]]
    """What makes datasets, as `composed` does; `config.data.name` chooses from them."""

    published_preparation: ClassVar[Mapping[str, Any]] = MappingProxyType({})
    """How inputs are prepared for published weights, as `Dataset.for_prediction` tells of a run."""

    loss_weights: Mapping[str, float] = MappingProxyType({"loss": 1.0})
    """The weight of each term of the loss.

    One term is called `loss`. Of several, each is called `loss_NAME`: its mean S / C, without the
    weight, is recorded under this name, beside the `loss` that is their weighted sum.
    """

    def check_dataset(self, dataset: Dataset) -> None:  # noqa: B027  # Most take any.
        """Raises UserError about a dataset that does not fit this task's settings."""

    def augmented(self, batch: Batch) -> Batch:
        """A training batch changed on the device, before it is cut into microbatches.

        Of each device under `pmap`, else the global one: what is random comes with the batch.
        """
        return batch

    @abc.abstractmethod
    def model_inputs(self, batch: Batch) -> dict[str, Array | np.ndarray]:
        """The keyword arguments of the model's `init` and `apply`."""

    @abc.abstractmethod
    def loss_masks(self, batch: Batch) -> dict[str, Array]:
        """For each term of the loss the elements that it covers, arrays [B, ...].

        Booleans, or weights of 0 and more; False or 0 for all of an example that is not `valid`.
        """

    @abc.abstractmethod
    def losses(self, outputs: Any, batch: Batch) -> dict[str, Array]:
        """For each term of the loss what each element costs, in the shape of its mask.

        An element that is not covered may cost anything, but its gradient must be finite.
        """

    @abc.abstractmethod
    def metrics(self, outputs: Any, batch: Batch) -> dict[str, tuple[Array, Array]]:
        """One (sum, count) a metric, other than the loss and its terms.

        The evaluation adds them up over batches, devices and processes and divides once, which is
        exact for any batch size.
        """

    @abc.abstractmethod
    def predictions(self, outputs: Any, batch: Batch) -> dict[str, Array]:
        """Small arrays [B, ...] to be collected over a whole split for `report`; may be empty."""

    @abc.abstractmethod
    def report(
        self, predictions: Mapping[str, np.ndarray], dataset: Dataset
    ) -> tuple[dict[str, float], dict[str, Figure]]:
        """What needs a whole split at once: further metrics and figures, each by its name.

        Args:
            predictions: what `predictions` gave for all N valid examples, arrays [N, ...].
            dataset: where they come from, for the names of classes.
        """

    @abc.abstractmethod
    def reported(self, dataset: Dataset) -> tuple[str, ...]:
        """Names of all metrics that `report` can give, known before anything is evaluated."""

    @abc.abstractmethod
    def figure(self, outputs: Any, batch: Batch, dataset: Dataset) -> Figure:
        """A picture of some examples of a batch, with what the model makes of them.

        Args:
            outputs: the model's outputs for the batch, as numpy arrays.
            batch: the batch, as numpy arrays.
            dataset: where it comes from, for the names of classes.
        """
