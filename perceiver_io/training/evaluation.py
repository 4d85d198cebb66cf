"""Evaluation of a whole split, exact for any batch size and any number of devices."""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import PyTree
from matplotlib.figure import Figure

from perceiver_io import losses
from perceiver_io.errors import UserError
from perceiver_io.training.parallel import Strategy
from perceiver_io.training.state import Params
from perceiver_io.training.step import EvaluationStep


class Result(NamedTuple):
    """Metrics and figures of a split, by name."""

    metrics: dict[str, float]
    figures: dict[str, Figure]


class Evaluator:
    """Applies a model to all examples of a split and collects the task's metrics and figures."""

    def __init__(self, step: EvaluationStep, strategy: Strategy, dataset: Any, batch_size: int):
        """Compiles on the first call.

        Args:
            step: the evaluation of one batch.
            strategy: how batches are spread over devices.
            dataset: has `load`, as `perceiver_io.data.pipeline.dataset.Dataset`.
            batch_size: global; rounded up to a multiple of the number of devices.
        """
        self._task = step.task
        self._strategy = strategy
        self._dataset = dataset
        per_device = -(-batch_size // jax.device_count())
        self._local_batch_size = per_device * jax.local_device_count()
        self._step = strategy.compile_evaluation(step)

    def __call__(self, params: Params, model_state: PyTree, split: str) -> Result:
        """Metrics and figures of one split; on all processes the same, but for `examples`.

        The figure `examples` shows examples of the first batch of this process. Raises UserError
        as `means` does.
        """
        totals = defaultdict(lambda: np.zeros(2))
        predictions = defaultdict(list)
        pictures = {}
        for batch in self._batches(split):
            one = self._step(params, model_state, self._strategy.place(batch))
            # Of several processes, some may have a first batch of padding only.
            if not pictures and batch["valid"].any():
                outputs = self._strategy.fetch_rows(one.outputs)
                pictures["examples"] = self._task.figure(outputs, batch, self._dataset)
            for name, sum_and_count in self._strategy.fetch(one.metrics).items():
                totals[name] += np.array(sum_and_count, np.float64)
            rows = dict(self._strategy.fetch(one.predictions))
            valid = rows.pop("valid")
            for name, values in rows.items():
                predictions[name].append(values[valid])
        metrics = means(totals, self._task.loss_weights, split)
        arrays = {name: np.concatenate(values) for name, values in predictions.items()}
        more_metrics, figures = self._task.report(arrays, self._dataset)
        return Result(metrics | more_metrics, figures | pictures)

    def _batches(self, split: str):
        return self._dataset.load(
            split,
            batch_size=self._local_batch_size,
            training=False,
            seed=0,
            shard=(jax.process_index(), jax.process_count()),
        )


def means(
    totals: Mapping[str, np.ndarray], loss_weights: Mapping[str, float], split: str
) -> dict[str, float]:
    """Metrics of a split, the loss among them, from the (sum, count) of each.

    Those that cover nothing are left out. The loss is the weighted sum of its terms, as in
    training; a term that covers nothing adds nothing.

    Args:
        totals: (sum, count) of the metrics and of the terms of the loss.
        loss_weights: the weight of each term.
        split: the name of the split.

    Raises:
        UserError: if no term covers anything; then the split is empty, or has no truth.
    """
    found = {name: float(total / count) for name, (total, count) in totals.items() if count}
    if not found.keys() & loss_weights.keys():
        raise UserError(
            f"The split {split!r} has nothing to evaluate: its metrics cover no example. Choose "
            "another split, or look whether the dataset is complete."
        )
    terms = {name: found.get(name, 0.0) for name in loss_weights}
    return found | {"loss": losses.total(loss_weights, terms)}
