"""Evaluation of a model of several tasks: each by itself, and the average."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import numpy as np
from jaxtyping import PyTree

from perceiver_io.config.construct import listing
from perceiver_io.data.pipeline.dataset import Dataset
from perceiver_io.data.text.task_mixture import TaskMixture
from perceiver_io.errors import UserError
from perceiver_io.models.architectures import Architecture
from perceiver_io.tasks.evaluation import BatchEvaluator, Result, Strategy

if TYPE_CHECKING:
    from perceiver_io.tasks.text_multitask.task import TextMultitask


@dataclasses.dataclass(frozen=True)
class AllTasks:
    """Evaluates a split of each task, and `average`, the mean of each task's own metric.

    Other splits of a task whose names begin with that of the split and `_` are evaluated, too, as
    MNLI's `validation_mismatched`; in the average, the splits of a task count as one.

    Attributes:
        task: computes the metrics.
        dataset: with the splits of each task.
        split: name of the split.
        batch_size: as of `BatchEvaluator`.
    """

    task: "TextMultitask"
    dataset: Dataset
    split: str
    batch_size: int

    def metric_names(self, model: Architecture) -> Sequence[str]:
        """`average`, and TASK/METRIC for each task and all metrics, some of which it may lack.

        Raises UserError for a name that is not a metric.
        """
        names = ["average"]
        for own, averaged in self._evaluators():
            for name, evaluator in own.items():
                metrics = evaluator.metric_names(model)
                names += [f"{name}/{metric}" for metric in metrics]
                if averaged not in metrics:
                    raise UserError(
                        f"config.task.metrics_averaged has {averaged!r} for {name}, but there are "
                        f"{listing(metrics)}: choose one of these."
                    )
        return names

    def __call__(
        self, model: Architecture, params: PyTree, state: PyTree, strategy: Strategy
    ) -> Result:
        """Evaluates all tasks, see `Evaluator`."""
        metrics, scores = {}, []
        for own, averaged in self._evaluators():
            found = {}
            for name, evaluator in own.items():
                found[name] = evaluator(model, params, state, strategy).metrics
                metrics |= {f"{name}/{metric}": value for metric, value in found[name].items()}
            scores.append(np.mean([values[averaged] for values in found.values()]))
        return Result({"average": float(np.mean(scores))} | metrics, {})

    def _evaluators(self) -> list[tuple[dict[str, BatchEvaluator], str]]:
        """For each task an evaluator of each of its splits, by name, and the metric to average."""
        found = []
        for name, averaged in zip(self.task.tasks, self.task.metrics_averaged, strict=True):
            splits = cast(TaskMixture, self.dataset.source).parts[name].source.splits
            own = {
                f"{name}{split.removeprefix(self.split)}": BatchEvaluator(
                    self.task, self.dataset, f"{name}/{split}", self.batch_size
                )
                for split in splits
                if split == self.split or split.startswith(f"{self.split}_")
            }
            found.append((own, averaged))
        return found
