"""Tags of words: one query for each word, at its first token."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float
from matplotlib.figure import Figure

from perceiver_io.config.annotations import Width
from perceiver_io.data.pipeline.dataset import Dataset
from perceiver_io.data.text import TAGGED
from perceiver_io.losses import sum_and_count
from perceiver_io.tasks.classes import check_classes_of_data, check_classes_of_model
from perceiver_io.tasks.confusion import confusion
from perceiver_io.tasks.task import Batch, Section, Task
from perceiver_io.tasks.text_tagging.spans import marks_spans, span_scores
from perceiver_io.tasks.vocabulary import check_vocabulary_of


@dataclasses.dataclass(frozen=True)
class TextTagging(Task):
    """Assigns one of `num_classes` tags to each word.

    Batches hold `text` [B, M] (token ids), `text_mask` [B, M], `word` [B, W] (the place of the
    first token of each word), `word_mask` [B, W], `label` [B, W] (int) and `valid` [B]. The model's
    outputs are logits [B, W, num_classes].

    Attributes:
        num_classes: the number of tags.
    """

    num_classes: Width

    datasets: ClassVar[Mapping[str, str]] = TAGGED

    def check_dataset(self, dataset: Dataset) -> None:
        """Raises UserError if the dataset has another number of tags."""
        check_classes_of_data(dataset, self.num_classes)

    def check_model(self, section: Section, dataset: Dataset) -> None:
        """Raises UserError if the tokenizer has another vocabulary."""
        check_vocabulary_of(dataset, section)

    def model_inputs(self, batch: Batch) -> dict[str, Array | np.ndarray]:
        """The token ids, which are no padding, and the places of words to decode."""
        return {
            "inputs": batch["text"],
            "input_mask": batch["text_mask"],
            "query": batch["word"],
        }

    def loss_masks(self, batch: Batch) -> dict[str, Bool[Array, "B W"]]:
        """The words of valid examples."""
        return {"loss": _words(batch)}

    def losses(
        self, outputs: Float[Array, "B W K"], batch: Batch
    ) -> dict[str, Float[Array, "B W"]]:
        """Cross-entropy of each word in nats."""
        check_classes_of_model(outputs, self.num_classes)
        log_p = jax.nn.log_softmax(outputs)
        return {"loss": -jnp.take_along_axis(log_p, batch["label"][..., None], axis=-1)[..., 0]}

    def metrics(
        self, outputs: Float[Array, "B W K"], batch: Batch
    ) -> dict[str, tuple[Float[Array, ""], Float[Array, ""]]]:
        """`word_accuracy`, and `exact_match`, the share of texts whose tags are all right."""
        is_right, words = jnp.argmax(outputs, -1) == batch["label"], _words(batch)
        return {
            "word_accuracy": sum_and_count(is_right, words),
            "exact_match": sum_and_count((is_right | ~words).all(-1), batch["valid"]),
        }

    def predictions(self, outputs: Float[Array, "B W K"], batch: Batch) -> dict[str, Array]:
        """The true tags and the most probable ones, each [B, W], and which are of words."""
        return {
            "label": jnp.asarray(batch["label"]),
            "prediction": jnp.argmax(outputs, -1),
            "word_mask": jnp.asarray(batch["word_mask"]),
        }

    def report(
        self, predictions: Mapping[str, np.ndarray], dataset: Dataset
    ) -> tuple[dict[str, float], dict[str, Figure]]:
        """Precision, recall and F1 of exact spans, if tags mark spans; and the confusions."""
        words, names = predictions["word_mask"], np.array(dataset.class_names)
        label, found = predictions["label"], predictions["prediction"]
        figures = {"confusion": confusion(label[words], found[words], dataset.class_names)}
        if not marks_spans(names):
            return {}, figures
        tags = [
            [list(names[row[mask]]) for row, mask in zip(x, words, strict=True)]
            for x in (label, found)
        ]
        return span_scores(*tags), figures

    def reported(self, dataset: Dataset) -> tuple[str, ...]:
        """`span_precision`, `span_recall` and `span_f1`, if tags mark spans."""
        return tuple(span_scores([], [])) if marks_spans(dataset.class_names) else ()


def _words(batch: Batch) -> Bool[Array, "B W"]:
    """The words of valid examples."""
    return jnp.asarray(batch["word_mask"]) & jnp.asarray(batch["valid"])[:, None]
