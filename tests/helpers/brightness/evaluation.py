"""Brightness of uniform images: an evaluator with its own data and metric."""

import dataclasses

import numpy as np

from perceiver_io.tasks.evaluation import Result
from tests.helpers.brightness.prediction import estimate

SHAPE = (8, 8, 1)


@dataclasses.dataclass(frozen=True)
class FlatImages:
    """The largest error over all grey levels."""

    def metric_names(self, model):
        del model
        return ["largest_error"]

    def __call__(self, model, params, state, strategy):
        images = np.broadcast_to(np.arange(256, dtype=np.uint8).reshape(-1, 1, 1, 1), (256, *SHAPE))
        found = estimate(model, *strategy.fetch((params, state)), images)
        return Result({"largest_error": float(np.abs(found - np.arange(256) / 255).max())}, {})
