"""Classification of point clouds."""

import dataclasses
from collections.abc import Mapping
from typing import Annotated, ClassVar

import numpy as np
import scipy.special
from jaxtyping import Array, Float
from matplotlib.figure import Figure

from perceiver_io.config.annotations import within
from perceiver_io.data.pipeline.dataset import Dataset
from perceiver_io.data.points import DATASETS
from perceiver_io.tasks.class_figures import shown_rows
from perceiver_io.tasks.classification import Classification
from perceiver_io.tasks.evaluation import Evaluator
from perceiver_io.tasks.point_cloud_classification import figures
from perceiver_io.tasks.point_cloud_classification.voting import voting_evaluator
from perceiver_io.tasks.task import Batch, Section


@dataclasses.dataclass(frozen=True)
class PointCloudClassification(Classification):
    """Assigns one of `num_classes` classes to a point cloud.

    Batches hold `points` [B, N, 3].

    Attributes:
        votes: above 1, each split is also evaluated with the mean of the probabilities for so many
            augmented copies of each cloud, as SPLIT_voting.
    """

    votes: Annotated[int, within(1, 1000)] = 1

    datasets: ClassVar[Mapping[str, str]] = DATASETS

    def model_inputs(self, batch: Batch) -> dict[str, Array | np.ndarray]:
        """The points, as the model's `inputs`."""
        return {"inputs": batch["points"]}

    def evaluators(self, config: Section) -> dict[str, Evaluator]:
        """Those of the splits, and those that vote."""
        single = super().evaluators(config)
        if self.votes == 1:
            return single
        return single | {
            f"{split}_voting": voting_evaluator(evaluator, self.votes)
            for split, evaluator in single.items()
        }

    def figure(
        self, outputs: Float[np.ndarray, "B K"], batch: Batch, dataset: Dataset
    ) -> Figure | None:
        """Up to 24 valid clouds, spread over the batch, with the model's prediction above each."""
        if batch["points"].ndim == 4:  # The copies of those that vote.
            return None
        shown = shown_rows(batch["valid"])
        return figures.classified_clouds(
            clouds=batch["points"][shown],
            up=dataset.for_prediction()["up"],
            labels=batch["label"][shown],
            probabilities=scipy.special.softmax(outputs[shown], axis=-1),
            class_names=dataset.class_names,
        )
