"""Classification of sentences and pairs: accuracy, F1, Matthews correlation."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.special
import sklearn.metrics
from jaxtyping import Array, Bool, Float
from matplotlib.figure import Figure

from perceiver_io.config.annotations import Rate, Width
from perceiver_io.data.pipeline.dataset import Dataset
from perceiver_io.data.text import CLASSIFIED
from perceiver_io.losses import sum_and_count
from perceiver_io.tasks.classes import check_classes_of_data, check_classes_of_model
from perceiver_io.tasks.confusion import confusion
from perceiver_io.tasks.evaluation import Submitter
from perceiver_io.tasks.figures import RIGHT, WRONG
from perceiver_io.tasks.glue_submission import glue_submitters
from perceiver_io.tasks.task import Batch, Section, Task
from perceiver_io.tasks.text_figures import answered_texts, shown_rows, shown_texts
from perceiver_io.tasks.vocabulary import check_vocabulary_of


@dataclasses.dataclass(frozen=True)
class TextClassification(Task):
    """Assigns one of `num_classes` classes to a sentence or a pair.

    Batches hold `text` [B, M] (token ids), `text_mask` [B, M], `label` [B] (int) and `valid` [B].
    The model's outputs are logits [B, num_classes].

    Attributes:
        num_classes: the number of classes.
        label_smoothing: the fraction of a label that is spread evenly over all classes.
    """

    num_classes: Width
    label_smoothing: Rate = 0.0

    datasets: ClassVar[Mapping[str, str]] = CLASSIFIED

    def check_dataset(self, dataset: Dataset) -> None:
        """Raises UserError if the dataset has another number of classes."""
        check_classes_of_data(dataset, self.num_classes)

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
        """Cross-entropy in nats."""
        check_classes_of_model(outputs, self.num_classes)
        label = jax.nn.one_hot(batch["label"], self.num_classes)
        targets = optax.smooth_labels(label, self.label_smoothing)
        return {"loss": optax.softmax_cross_entropy(outputs, targets)}

    def metrics(
        self, outputs: Float[Array, "B K"], batch: Batch
    ) -> dict[str, tuple[Float[Array, ""], Float[Array, ""]]]:
        """`accuracy`."""
        is_right = jnp.argmax(outputs, -1) == batch["label"]
        return {"accuracy": sum_and_count(is_right, batch["valid"])}

    def predictions(self, outputs: Float[Array, "B K"], batch: Batch) -> dict[str, Array]:
        """The true class and the most probable one, each [B]."""
        return {"label": jnp.asarray(batch["label"]), "prediction": jnp.argmax(outputs, -1)}

    def report(
        self, predictions: Mapping[str, np.ndarray], dataset: Dataset
    ) -> tuple[dict[str, float], dict[str, Figure]]:
        """`matthews`, `f1` of the second of two classes or `macro_f1`, and the confusions.

        Both as scikit-learn defines them; `macro_f1` is the mean over the classes.
        """
        label, found = predictions["label"], predictions["prediction"]
        figures = {"confusion": confusion(label, found, dataset.class_names)}
        return self.scores(label, found), figures

    def scores(self, label: np.ndarray, prediction: np.ndarray) -> dict[str, float]:
        """The metrics of `report`."""
        average = "binary" if self.num_classes == 2 else "macro"
        f1 = sklearn.metrics.f1_score(label, prediction, average=average, zero_division=0)
        matthews = sklearn.metrics.matthews_corrcoef(label, prediction)
        return dict(zip(self._names, (float(matthews), float(f1)), strict=True))

    def reported(self, dataset: Dataset) -> tuple[str, ...]:
        """`matthews`, and `f1` or `macro_f1`."""
        del dataset
        return self._names

    def submitters(self, config: Section) -> Mapping[str, Submitter]:
        """Those of GLUE."""
        return glue_submitters(self, config)

    def figure(self, outputs: Float[np.ndarray, "B K"], batch: Batch, dataset: Dataset) -> Figure:
        """Up to 16 texts with the model's predictions."""
        rows = shown_rows(batch)
        probabilities = scipy.special.softmax(outputs[rows], axis=-1)
        answers, colors = [], []
        for label, probability in zip(batch["label"][rows], probabilities, strict=True):
            found = int(probability.argmax())
            answer = f"{dataset.class_names[found]}, {probability[found]:.0%}"
            if found != label:
                answer += f"; is {dataset.class_names[label]}"
            answers.append(answer)
            colors.append(RIGHT if found == label else WRONG)
        return answered_texts(shown_texts(batch, rows, dataset), answers, colors)

    @property
    def _names(self) -> tuple[str, str]:
        return "matthews", "f1" if self.num_classes == 2 else "macro_f1"
