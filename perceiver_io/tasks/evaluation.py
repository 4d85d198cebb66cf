"""Evaluators, which measure a trained model, in training and in `experiments.evaluate`."""

import dataclasses
import functools
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from perceiver_io import losses
from perceiver_io.data.pipeline.dataset import Dataset, Preparation
from perceiver_io.models.architectures import Architecture

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from perceiver_io.tasks.task import Task


class Result(NamedTuple):
    """Metrics and figures, by name."""

    metrics: dict[str, float]
    figures: dict[str, "Figure"]


@runtime_checkable
class Strategy(Protocol):
    """How arrays are sharded over devices; `perceiver_io.training.parallel` has two.

    Attributes:
        num_batch_shards: the number of parts of a batch that are on different devices.
    """

    num_batch_shards: int

    def compile_evaluation(self, step: Callable) -> Callable:
        """Compiles an `EvaluationStep` for batches that are sharded over all devices."""

    def place(self, batch: Mapping[str, np.ndarray]) -> Mapping[str, Array]:
        """Puts this process's rows of a batch on its devices."""

    def replica(self, tree: PyTree) -> PyTree:
        """Complete parameters on one device of each process; all processes must call it."""

    def fetch(self, tree: PyTree) -> PyTree:
        """Gathers complete arrays on every host: not for parameters. All processes must call it."""

    def fetch_rows(self, tree: PyTree) -> PyTree:
        """This process's rows of arrays [B, ...]."""


@runtime_checkable
class Evaluator(Protocol):
    """Evaluates models of one architecture, with its own data and its own way of predicting."""

    def metric_names(self, model: Architecture) -> Sequence[str]:
        """Names of all metrics that a call may return, without computing anything.

        Raises UserError where a call would: if the data is missing or does not fit the model.
        """

    def __call__(
        self, model: Architecture, params: PyTree, state: PyTree, strategy: Strategy
    ) -> Result:
        """Metrics and figures of a model; all processes must call it and get the same metrics.

        Args:
            model: its functions.
            params: its parameters, as placed by the strategy.
            state: its state, likewise.
            strategy: how arrays are sharded over devices.

        Raises UserError if the data is missing or has no ground truth.
        """


@runtime_checkable
class Submitter(Protocol):
    """Writes predictions in the format of a benchmark's server."""

    def __call__(
        self, model: Architecture, params: PyTree, state: PyTree, strategy: Strategy, folder: Path
    ) -> int:
        """Writes the files below a folder and returns their number; other arguments as `Evaluator`.

        Raises UserError if the data is of no such benchmark, or if its ground truth is public.
        """


@dataclasses.dataclass(frozen=True)
class EvaluationStep:
    """Applies the model to one batch, without randomness, and computes metrics and predictions."""

    model: Architecture
    task: "Task"

    def __call__(
        self, params: PyTree, state: PyTree, batch: Mapping[str, Array]
    ) -> tuple[dict[str, tuple[Array, Array]], dict[str, Array], PyTree[Array]]:
        """Evaluates one batch, in which `valid` is False for padding.

        Returns:
            (sum, count) of each metric over the whole batch; the task's predictions, arrays
            [B, ...] by name, with `valid`; and the model's outputs [B, ...].
        """
        outputs, _ = self.model.apply(
            params, state, None, **self.task.model_inputs(batch), is_training=False
        )
        predictions = self.task.predictions(outputs, batch) | {"valid": batch["valid"]}
        return losses.measures(self.task, outputs, batch), predictions, outputs


@dataclasses.dataclass(frozen=True)
class BatchEvaluator:
    """Evaluates a split in batches; exact for any batch size and number of devices.

    Attributes:
        task: computes the metrics.
        dataset: with the split.
        split: name of the split.
        batch_size: global; rounded up to a multiple of the parts that devices have of it.
    """

    task: "Task"
    dataset: Dataset
    split: str
    batch_size: int

    def metric_names(self, model: Architecture) -> list[str]:
        """The loss, its terms, and the metrics of the task and of its report."""
        self.dataset.check_labelled(self.split)

        def evaluate(params: PyTree, state: PyTree) -> dict[str, tuple[Array, Array]]:
            batch = {name: jnp.zeros(*array) for name, array in self.dataset.batch_spec(1).items()}
            return EvaluationStep(model, self.task)(params, state, batch)[0]

        metrics = jax.eval_shape(evaluate, *model.shapes())
        return sorted({"loss", *metrics}) + list(self.task.reported(self.dataset))

    def __call__(
        self, model: Architecture, params: PyTree, state: PyTree, strategy: Strategy
    ) -> Result:
        """Evaluates the split, see `Evaluator`; compiles on the first call.

        The figure `examples`, if the task draws one, shows examples of this process's first batch.
        """
        totals, arrays, examples = self._run(model, params, state, strategy)
        metrics = losses.means(totals, self.task.loss_weights, self.split)
        more_metrics, figures = self.task.report(arrays, self.dataset)
        return Result(metrics | more_metrics, figures | self._pictures(examples))

    def predictions(
        self, model: Architecture, params: PyTree, state: PyTree, strategy: Strategy
    ) -> dict[str, np.ndarray]:
        """The task's predictions for all examples in order; arguments as for a call."""
        return self._run(model, params, state, strategy)[1]

    def _run(
        self, model: Architecture, params: PyTree, state: PyTree, strategy: Strategy
    ) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], tuple | None]:
        """(sum, count) of each metric, predictions, and the first batch with its outputs."""
        evaluate = _compiled(EvaluationStep(model, self.task), strategy)
        totals = defaultdict(lambda: np.zeros(2))
        predictions = defaultdict(list)
        examples = None
        for batch in self._batches(strategy.num_batch_shards):
            sums, rows, outputs = evaluate(params, state, strategy.place(batch))
            # With several processes, the first batch of some may be all padding.
            if examples is None and batch["valid"].any():
                examples = batch, strategy.fetch_rows(outputs)
            for name, sum_and_count in strategy.fetch(sums).items():
                totals[name] += np.array(sum_and_count, np.float64)
            rows = dict(strategy.fetch(rows))
            valid = rows.pop("valid")
            for name, values in rows.items():
                predictions[name].append(values[valid])
        arrays = {name: np.concatenate(values) for name, values in predictions.items()}
        return totals, arrays, examples

    def _pictures(self, examples: tuple | None) -> dict[str, "Figure"]:
        if examples is None:
            return {}
        batch, outputs = examples
        figure = self.task.figure(outputs, batch, self.dataset)
        return {} if figure is None else {"examples": figure}

    def _batches(self, num_shards: int):
        in_each = -(-self.batch_size // num_shards)
        return self.dataset.load(
            self.split,
            batch_size=in_each * num_shards // jax.process_count(),
            training=False,
            seed=0,
            shard=(jax.process_index(), jax.process_count()),
        )


@dataclasses.dataclass(frozen=True)
class ChangedModelEvaluator:
    """Evaluates a split with a model that is made of the trained one, on the same weights.

    Attributes:
        batches: evaluates the changed model.
        change: makes it; gives the same object for the same model, so that it is compiled once.
    """

    batches: BatchEvaluator
    change: Callable[[Architecture], Architecture]

    def metric_names(self, model: Architecture) -> list[str]:
        """Those of the changed model."""
        return self.batches.metric_names(self.change(model))

    def __call__(
        self, model: Architecture, params: PyTree, state: PyTree, strategy: Strategy
    ) -> Result:
        """Metrics and figures, see `Evaluator`."""
        return self.batches(self.change(model), params, state, strategy)


def with_several_views(
    single: BatchEvaluator, preparation: Preparation, count: int
) -> BatchEvaluator:
    """An evaluator of as many arrays at a time, whose examples have `count` views each."""
    dataset = dataclasses.replace(single.dataset, preparation=preparation)
    batch_size = max(single.batch_size // count, 1)
    return dataclasses.replace(single, dataset=dataset, batch_size=batch_size)


@functools.lru_cache(maxsize=8)
def _compiled(step: EvaluationStep, strategy: Strategy) -> Callable:
    return strategy.compile_evaluation(step)
