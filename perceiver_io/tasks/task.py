"""The interface of a task: what is asked of a model's outputs, and how the answer is judged."""

import abc
from collections.abc import Mapping
from types import MappingProxyType
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

    datasets: ClassVar[Mapping[str, str]]
    """The dotted names of what `Composed` made, which `config.data.name` chooses from."""

    evaluates_any_size: ClassVar[bool] = False
    """Whether evaluation may give a model inputs of another size than training, tile by tile."""

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

    def predictions(self, outputs: Any, batch: Batch) -> dict[str, Array]:
        """Small arrays [B, ...] to be collected over a whole split for `report`; or none."""
        del outputs, batch
        return {}

    def report(
        self, predictions: Mapping[str, np.ndarray], dataset: Dataset
    ) -> tuple[dict[str, float], dict[str, "Figure"]]:
        """What needs a whole split at once: further metrics and figures, each by its name.

        By default nothing.

        Args:
            predictions: what `predictions` gave for all N valid examples, arrays [N, ...].
            dataset: where they come from, for the names of classes.
        """
        del predictions, dataset
        return {}, {}

    def reported(self, dataset: Dataset) -> tuple[str, ...]:
        """Names of all metrics that `report` can give, known before anything is evaluated."""
        del dataset
        return ()

    def figure(self, outputs: Any, batch: Batch, dataset: Dataset) -> "Figure | None":
        """A picture of some examples of a batch, with what the model makes of them; or None.

        Args:
            outputs: the model's outputs for the batch, as numpy arrays.
            batch: the batch, as numpy arrays.
            dataset: where it comes from, for the names of classes.
        """
        del outputs, batch, dataset
        return None

    def build_dataset(self, section: Section) -> Dataset:
        """The dataset of a section `config.data`. Raises UserError naming what is wrong in it."""
        factory = lookup(self.datasets, section, "config.data")
        return construct(factory, section, "config.data")

    def evaluators(self, config: Section) -> dict[str, Evaluator]:
        """What measures a model, by name; by default each split of the config, in batches.

        Training and `experiments.evaluate` run all of them; metrics are known as EVALUATOR/METRIC.

        Args:
            config: the whole config; `evaluation.splits` are those to measure.
        """
        dataset, evaluation = self.build_dataset(config["data"]), config["evaluation"]
        return {
            split: BatchEvaluator(self, dataset, split, evaluation["batch_size"])
            for split in evaluation["splits"]
        }

    def submitters(self, config: Section) -> dict[str, Submitter]:
        """What writes the files that a benchmark's server measures, by split.

        Raises UserError where there is no such server; by default there is none.
        """
        raise UserError(
            f"--submission is for benchmarks whose server measures predictions, but there is none "
            f"for the task {config['task']['name']}: leave it out."
        )
