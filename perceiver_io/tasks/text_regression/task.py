"""Scores of sentences and pairs: Pearson and Spearman correlation."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar, cast

import jax.numpy as jnp
import numpy as np
import scipy.stats
from jaxtyping import Array, Bool, Float
from matplotlib.figure import Figure

from perceiver_io.data.pipeline.dataset import Dataset
from perceiver_io.data.text import SCORED
from perceiver_io.data.text.preparation import ScoredTextPreparation
from perceiver_io.errors import UserError
from perceiver_io.tasks.evaluation import Submitter
from perceiver_io.tasks.figures import ACCENT, INK
from perceiver_io.tasks.glue_submission import glue_submitters
from perceiver_io.tasks.task import Batch, Section, Task
from perceiver_io.tasks.text_figures import answered_texts, shown_rows, shown_texts
from perceiver_io.tasks.vocabulary import check_vocabulary_of


@dataclasses.dataclass(frozen=True)
class TextRegression(Task):
    """Gives a sentence or a pair a score.

    Batches hold `text` [B, M] (token ids), `text_mask` [B, M], `label` [B] (the score, shifted and
    scaled as config.data tells) and `valid` [B]. The model's outputs are [B, 1].
    """

    datasets: ClassVar[Mapping[str, str]] = SCORED

    def check_model(self, section: Section, dataset: Dataset) -> None:
        """Raises UserError if the tokenizer has another vocabulary."""
        check_vocabulary_of(dataset, section)

    def model_inputs(self, batch: Batch) -> dict[str, Array | np.ndarray]:
        """The token ids, and which are no padding."""
        return {"inputs": batch["text"], "input_mask": batch["text_mask"]}

    def loss_masks(self, batch: Batch) -> dict[str, Bool[Array, " B"]]:
        """The valid examples."""
        return {"loss": jnp.asarray(batch["valid"])}

    def losses(self, outputs: Float[Array, "B K"], batch: Batch) -> dict[str, Float[Array, " B"]]:
        """Squared errors of the scaled scores."""
        if outputs.shape[-1] != 1:
            raise UserError(
                f"The model has {outputs.shape[-1]} outputs, but a score is one: set "
                "config.model.num_classes to 1."
            )
        return {"loss": jnp.square(outputs[:, 0] - batch["label"])}

    def metrics(self, outputs: Float[Array, "B 1"], batch: Batch) -> dict:
        """None: correlations need all examples at once."""
        del outputs, batch
        return {}

    def predictions(self, outputs: Float[Array, "B 1"], batch: Batch) -> dict[str, Array]:
        """The true score and the predicted one, scaled, each [B]."""
        return {"label": jnp.asarray(batch["label"]), "prediction": outputs[:, 0]}

    def report(
        self, predictions: Mapping[str, np.ndarray], dataset: Dataset
    ) -> tuple[dict[str, float], dict[str, Figure]]:
        """`pearson`, `spearman`, and `root_mean_square_error` in the units of the scores.

        Correlations are 0 where all predictions, or all scores, are equal.
        """
        unscaled = _preparation(dataset).unscaled
        label, prediction = map(unscaled, (predictions["label"], predictions["prediction"]))
        error = float(np.sqrt(np.mean(np.square(prediction - label))))
        metrics = correlations(label, prediction) | {"root_mean_square_error": error}
        return metrics, {"scores": _scatter(label, prediction, metrics)}

    def reported(self, dataset: Dataset) -> tuple[str, ...]:
        """The three."""
        del dataset
        return ("pearson", "spearman", "root_mean_square_error")

    def submitters(self, config: Section) -> Mapping[str, Submitter]:
        """Those of GLUE."""
        return glue_submitters(self, config)

    def figure(self, outputs: Float[np.ndarray, "B 1"], batch: Batch, dataset: Dataset) -> Figure:
        """Up to 16 texts with their scores."""
        rows, unscaled = shown_rows(batch), _preparation(dataset).unscaled
        found, true = unscaled(outputs[rows, 0]), unscaled(batch["label"][rows])
        answers = [f"{x:.2f}; is {y:.2f}" for x, y in zip(found, true, strict=True)]
        return answered_texts(shown_texts(batch, rows, dataset), answers, [ACCENT] * len(rows))


def correlations(label: np.ndarray, prediction: np.ndarray) -> dict[str, float]:
    """`pearson` and `spearman`; 0 where one of the two is constant, and so has none."""
    if np.ptp(label) == 0 or np.ptp(prediction) == 0:
        return {"pearson": 0.0, "spearman": 0.0}
    label, prediction = label.astype(np.float64), prediction.astype(np.float64)
    return {
        "pearson": float(scipy.stats.pearsonr(label, prediction).statistic),
        "spearman": float(scipy.stats.spearmanr(label, prediction).statistic),
    }


def _preparation(dataset: Dataset) -> ScoredTextPreparation:
    return cast(ScoredTextPreparation, dataset.preparation)


def _scatter(label: np.ndarray, prediction: np.ndarray, metrics: Mapping[str, float]) -> Figure:
    figure = Figure(figsize=(5, 5), layout="constrained")
    axes = figure.subplots()
    axes.scatter(label, prediction, s=6, alpha=0.4, color=ACCENT, linewidths=0)
    ends = [min(label.min(), prediction.min()), max(label.max(), prediction.max())]
    axes.plot(ends, ends, color=INK, linewidth=0.8)
    axes.set(xlabel="true score", ylabel="predicted score")
    title = f"Pearson {metrics['pearson']:.3f}, Spearman {metrics['spearman']:.3f}"
    axes.set_title(title, fontsize=10)
    return figure
