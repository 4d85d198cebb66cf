"""Classification tasks: label-smoothed cross-entropy, top-1 and top-5 accuracy."""

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int
from matplotlib.figure import Figure

from perceiver_io.config.annotations import Rate, Width
from perceiver_io.data.pipeline.dataset import Dataset
from perceiver_io.losses import sum_and_count
from perceiver_io.tasks.classes import check_classes_of_data, check_classes_of_model
from perceiver_io.tasks.confusion import MAX_LISTED_CLASSES, confusion
from perceiver_io.tasks.task import Batch, Task


@dataclasses.dataclass(frozen=True)
class Classification(Task):
    """Assigns one of `num_classes` classes to an example.

    Batches hold the inputs, `label` [B] (int) and `valid` [B]. Labels may also be probabilities [B,
    num_classes]; the class of such a soft label is its most probable one. The model's outputs are
    logits [B, num_classes].

    Attributes:
        num_classes: the number of classes.
        label_smoothing: the fraction s of a label that is spread evenly over all classes: (1 - s) *
            label + s / num_classes.
    """

    num_classes: Width
    label_smoothing: Rate = 0.1

    def check_dataset(self, dataset: Dataset) -> None:
        """Raises UserError if the dataset has another number of classes."""
        check_classes_of_data(dataset, self.num_classes)

    def loss_masks(self, batch: Batch) -> dict[str, Bool[Array, " B"]]:
        """The valid examples."""
        return {"loss": jnp.asarray(batch["valid"])}

    def losses(self, outputs: Float[Array, "B K"], batch: Batch) -> dict[str, Float[Array, " B"]]:
        """Cross-entropy against the smoothed labels, in nats."""
        return {"loss": optax.softmax_cross_entropy(outputs, self.targets(outputs, batch))}

    def metrics(
        self, outputs: Float[Array, "B K"], batch: Batch
    ) -> dict[str, tuple[Float[Array, ""], Float[Array, ""]]]:
        """`top_1` and, with more than five classes, `top_5`.

        With five classes or fewer, top-5 accuracy is always 1.
        """
        check_classes_of_model(outputs, self.num_classes)
        label = jnp.argmax(self.probabilities(batch), -1)
        return {
            f"top_{k}": sum_and_count(_in_top_k(outputs, label, k), batch["valid"])
            for k in (1, 5)
            if k == 1 or k < self.num_classes
        }

    def predictions(self, outputs: Float[Array, "B K"], batch: Batch) -> dict[str, Array]:
        """The true class, the most probable class and its probability, each [B]."""
        return {
            "label": jnp.argmax(self.probabilities(batch), -1),
            "prediction": jnp.argmax(outputs, -1),
            "probability": jax.nn.softmax(outputs).max(-1),
        }

    def report(
        self, predictions: Mapping[str, np.ndarray], dataset: Dataset
    ) -> tuple[dict[str, float], dict[str, Figure]]:
        """Accuracy per class, and the confusions between classes.

        `mean_class_accuracy` weights all classes that occur equally. For up to 20 classes, there is
        also a `class_accuracy/NAME` for each, and the figure is the confusion matrix; for more, the
        figure lists the most confused pairs.
        """
        label, prediction = predictions["label"], predictions["prediction"]
        by_class = {
            dataset.class_names[k]: float((prediction[label == k] == k).mean())
            for k in np.unique(label)
        }
        metrics = {"mean_class_accuracy": float(np.mean(list(by_class.values())))}
        if self.num_classes <= MAX_LISTED_CLASSES:
            metrics |= {f"class_accuracy/{name}": value for name, value in by_class.items()}
        return metrics, {"confusion": confusion(label, prediction, dataset.class_names)}

    def reported(self, dataset: Dataset) -> tuple[str, ...]:
        """`mean_class_accuracy` and, for up to 20 classes, `class_accuracy/NAME`."""
        listed = dataset.class_names if self.num_classes <= MAX_LISTED_CLASSES else ()
        return ("mean_class_accuracy", *(f"class_accuracy/{name}" for name in listed))

    def targets(self, outputs: Float[Array, "B K"], batch: Batch) -> Float[Array, "B K"]:
        """The smoothed labels. Raises UserError if the outputs have another number of classes."""
        check_classes_of_model(outputs, self.num_classes)
        return optax.smooth_labels(self.probabilities(batch), self.label_smoothing)

    def probabilities(self, batch: Batch) -> Float[Array, "B K"]:
        """Labels as probabilities; soft labels are unchanged."""
        label = jnp.asarray(batch["label"])
        return label if label.ndim == 2 else jax.nn.one_hot(label, self.num_classes)


def _in_top_k(logits: Float[Array, "B K"], label: Int[Array, " B"], k: int) -> Bool[Array, " B"]:
    """Whether the label is among the k largest logits; ties go to the first."""
    _, best = jax.lax.top_k(logits, k)
    return (best == label[:, None]).any(-1)
