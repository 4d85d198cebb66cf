"""The interface of a task: a model's inputs, losses, metrics, evaluators and figures."""

import abc
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from jaxtyping import Array

from perceiver_io.config.construct import construct, lookup
from perceiver_io.data.pipeline.dataset import Dataset
from perceiver_io.errors import UserError
from perceiver_io.tasks.evaluation import BatchEvaluator, Evaluator, Submitter

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Batch = Mapping[str, Array | np.ndarray]
Section = Mapping[str, Any]


class Task(abc.ABC):
    """Losses, metrics and figures, and the datasets for training and evaluation.

    Subclasses are frozen dataclasses whose fields are the keys of `config.task`, without `name`. A
    batch is a dict of arrays with a leading example axis. Its entry `valid` [B] (bool) is False for
    padding in the last batches of an evaluation, which is ignored. `loss_masks`, `losses`,
    `metrics` and `predictions` are traced by JAX; `report` and `figure` run on the host.

    The loss is L = sum over its terms of weight * S / C, where S is the sum of the losses of the
    elements that a term covers, and C is their number, over the whole batch of a step or over a
    whole split; see `perceiver_io.losses`.
    """

    datasets: ClassVar[Mapping[str, str]]
    """Dotted names of the datasets, made by `Composed`, that `config.data.name` can choose."""

    evaluates_any_size: ClassVar[bool] = False
    """Whether the model can be evaluated on inputs of other sizes than in training."""

    @property
    def loss_weights(self) -> Mapping[str, float]:
        """The weight of each term of the loss.

        A single term is called `loss`. Several terms are called `loss_NAME` each: the mean S / C
        without the weight is recorded under this name, in addition to the weighted sum `loss`.
        """
        return {"loss": 1.0}

    def check_dataset(self, dataset: Dataset) -> None:  # noqa: B027  # Most tasks take any dataset.
        """Raises UserError if a dataset does not fit this task's settings."""

    def check_model(self, section: Section, dataset: Dataset) -> None:  # noqa: B027
        """Raises UserError if a model, a section `config.model`, does not fit the dataset.

        Shapes are compared elsewhere.
        """

    def augmented(self, batch: Batch) -> Batch:
        """Augments a training batch on the device, before it is split into microbatches.

        The batch is that of one device under `pmap`, else the global one, so random numbers must
        come with the batch.
        """
        return batch

    @abc.abstractmethod
    def model_inputs(self, batch: Batch) -> dict[str, Array | np.ndarray]:
        """The keyword arguments of the model's `init` and `apply`."""

    @abc.abstractmethod
    def loss_masks(self, batch: Batch) -> dict[str, Array]:
        """For each term of the loss, a mask [B, ...] of the elements that it covers.

        Masks are booleans or non-negative weights; False or 0 for all elements of an example that
        is not `valid`.
        """

    @abc.abstractmethod
    def losses(self, outputs: Any, batch: Batch) -> dict[str, Array]:
        """For each term of the loss, the loss of each element, in the shape of its mask.

        The loss of an element that is not covered is arbitrary, but its gradient must be finite.
        """

    @abc.abstractmethod
    def metrics(self, outputs: Any, batch: Batch) -> dict[str, tuple[Array, Array]]:
        """(sum, count) of each metric other than the loss and its terms.

        Evaluation adds them over batches, devices and processes and divides once, which is exact
        for any batch size.
        """

    def predictions(self, outputs: Any, batch: Batch) -> dict[str, Array]:
        """Small arrays [B, ...] to collect over a whole split for `report`, if any."""
        del outputs, batch
        return {}

    def report(
        self, predictions: Mapping[str, np.ndarray], dataset: Dataset
    ) -> tuple[dict[str, float], dict[str, "Figure"]]:
        """Metrics and figures that need a whole split at once, by name.

        By default nothing.

        Args:
            predictions: the results of `predictions` for all N valid examples, arrays [N, ...].
            dataset: their source, for class names.
        """
        del predictions, dataset
        return {}, {}

    def reported(self, dataset: Dataset) -> tuple[str, ...]:
        """Names of all metrics that `report` can return, known before evaluation."""
        del dataset
        return ()

    def figure(self, outputs: Any, batch: Batch, dataset: Dataset) -> "Figure | None":
        """A figure of some examples of a batch with the model's predictions, or None.

        Args:
            outputs: the model's outputs for the batch, as NumPy arrays.
            batch: the batch, as NumPy arrays.
            dataset: its source, for class names.
        """
        del outputs, batch, dataset
        return None

    def build_dataset(self, section: Section) -> Dataset:
        """Builds the dataset of a section `config.data`. Raises UserError naming what is wrong."""
        factory = lookup(self.datasets, section, "config.data")
        return construct(factory, section, "config.data")

    def evaluators(self, config: Section) -> dict[str, Evaluator]:
        """Evaluators of a model, by name; by default one for each split of the config, in batches.

        Training and `experiments.evaluate` run all of them; metrics are named EVALUATOR/METRIC.

        Args:
            config: the whole config; its `evaluation.splits` are evaluated.
        """
        dataset, evaluation = self.build_dataset(config["data"]), config["evaluation"]
        return {
            split: BatchEvaluator(self, dataset, split, evaluation["batch_size"])
            for split in evaluation["splits"]
        }

    def submitters(self, config: Section) -> dict[str, Submitter]:
        """Writers of the files to submit to a benchmark's server, by split.

        Raises UserError if there is no such server, as by default.
        """
        raise UserError(
            f"--submission is for benchmarks whose server evaluates predictions, but there is none "
            f"for the task {config['task']['name']}: leave it out."
        )
