"""Tagging of sounds, videos, and videos with sound: any number of classes for each."""

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.special
from jaxtyping import Array, Bool, Float
from matplotlib.figure import Figure

from perceiver_io.config.annotations import EACH_ONCE, Width, within
from perceiver_io.data.pipeline.dataset import Dataset
from perceiver_io.data.sound import DATASETS
from perceiver_io.data.sound.tagged import MODALITIES
from perceiver_io.losses import sum_and_count
from perceiver_io.tasks import pairs
from perceiver_io.tasks.class_figures import shown_rows
from perceiver_io.tasks.classes import check_classes_of_data, check_classes_of_model
from perceiver_io.tasks.confusion import MAX_LISTED_CLASSES
from perceiver_io.tasks.evaluation import Evaluator
from perceiver_io.tasks.sound_tagging import figures, scores
from perceiver_io.tasks.sound_tagging.evaluation import stretches_evaluator, without_modality
from perceiver_io.tasks.task import Batch, Section, Task


@dataclasses.dataclass(frozen=True)
class SoundTagging(Task):
    """Assigns any number of `num_classes` classes to a stretch of sound, video or both.

    Batches hold `sound` [B, ...] and its `sound_present` [B], `video` [B, T, H, W, 3] (uint8) and
    its `video_present` [B], or one of the two; `tags` [B, n] (indices of classes, -1 for none) and
    `valid` [B]. The model's outputs are logits [B, num_classes].

    Attributes:
        num_classes: the number of classes.
        stretches: above 1, each split is also evaluated by the mean of the probabilities for so
            many stretches of each recording, at equal distances, as SPLIT_N_stretches.
        without: modalities of which each is withheld from the model in one more evaluation of each
            split, SPLIT_without_MODALITY.
    """

    num_classes: Width
    stretches: Annotated[int, within(1, 1000)] = 1
    without: Annotated[tuple[Literal["sound", "video"], ...], EACH_ONCE] = ()

    datasets: ClassVar[Mapping[str, str]] = DATASETS

    def check_dataset(self, dataset: Dataset) -> None:
        """Raises UserError if the dataset has another number of classes."""
        check_classes_of_data(dataset, self.num_classes)

    def evaluators(self, config: Section) -> dict[str, Evaluator]:
        """Those of the splits, and those with several stretches or without a modality."""
        found = single = super().evaluators(config)
        if self.stretches > 1:
            found = found | {
                f"{split}_{self.stretches}_stretches": stretches_evaluator(one, self.stretches)
                for split, one in single.items()
            }
        return found | {
            f"{split}_without_{name}": without_modality(one, name)
            for split, one in single.items()
            for name in self.without
        }

    def augmented(self, batch: Batch) -> Batch:
        """Pairs mixed by MixUp (1710.09412), if the dataset has drawn the weights.

        Pairs that do not have the same modalities stay as they are: what is mixed into a modality
        that the model is not given cannot tell it the other's tags.
        """
        if "mixup_weight" not in batch:
            return batch
        pairs.check_pairs(len(batch["valid"]), "set config.data.mixup_alpha to 0")
        given = [jnp.asarray(batch[f"{name}_present"]) for name in MODALITIES if name in batch]
        is_alike = jnp.stack(list(map(pairs.is_alike, given))).all(0)
        weight = jnp.where(is_alike, pairs.of_first(batch["mixup_weight"]), 1)
        mixed = {"targets": self.targets(batch)} | {
            name: jnp.asarray(batch[name], jnp.float32) for name in MODALITIES if name in batch
        }
        return batch | {
            name: pairs.blend(x, weight.reshape(-1, *(1,) * (x.ndim - 1)))
            for name, x in mixed.items()
        }

    def model_inputs(self, batch: Batch) -> dict[str, Any]:
        """The modalities of the batch, pixels from -1 to 1, and which of them are present."""
        return model_inputs(batch)

    def targets(self, batch: Batch) -> Float[Array, "B K"]:
        """1 for the classes of each example, 0 for the others; mixed if the batch is."""
        if "targets" in batch:
            return batch["targets"]
        return jax.nn.one_hot(batch["tags"], self.num_classes).max(1)

    def loss_masks(self, batch: Batch) -> dict[str, Bool[Array, "B K"]]:
        """All classes of the valid examples."""
        valid = jnp.asarray(batch["valid"])[:, None]
        return {"loss": jnp.broadcast_to(valid, (len(valid), self.num_classes))}

    def losses(self, outputs: Float[Array, "B K"], batch: Batch) -> dict[str, Float[Array, "B K"]]:
        """Sigmoid cross-entropy in nats."""
        check_classes_of_model(outputs, self.num_classes)
        return {"loss": optax.sigmoid_binary_cross_entropy(outputs, self.targets(batch))}

    def metrics(
        self, outputs: Float[Array, "B K"], batch: Batch
    ) -> dict[str, tuple[Float[Array, ""], Float[Array, ""]]]:
        """`top_1`: how often the most probable class is among an example's."""
        check_classes_of_model(outputs, self.num_classes)
        best = jnp.argmax(outputs, -1)[:, None]
        is_right = jnp.take_along_axis(self.targets(batch), best, axis=1)[:, 0] >= 0.5
        return {"top_1": sum_and_count(is_right, batch["valid"])}

    def predictions(self, outputs: Float[Array, "B K"], batch: Batch) -> dict[str, Array]:
        """Whether each class is an example's, and its probability, each [B, K]."""
        return {"is_tag": self.targets(batch) == 1, "probability": jax.nn.sigmoid(outputs)}

    def report(
        self, predictions: Mapping[str, np.ndarray], dataset: Dataset
    ) -> tuple[dict[str, float], dict[str, Figure]]:
        """`map`, `auc` and `d_prime`, means over the classes that occur; a figure by class.

        For up to 20 classes, also an `average_precision/NAME` for each.
        """
        is_tag, probability = predictions["is_tag"], predictions["probability"]
        metrics = scores.means(is_tag, probability)
        precisions = scores.average_precisions(is_tag, probability)
        by_class = {
            name: float(value)
            for name, value in zip(dataset.class_names, precisions, strict=True)
            if np.isfinite(value)
        }
        if self.num_classes <= MAX_LISTED_CLASSES:
            metrics |= {f"average_precision/{name}": value for name, value in by_class.items()}
        return metrics, {"average_precision": figures.precisions_by_class(by_class)}

    def reported(self, dataset: Dataset) -> tuple[str, ...]:
        """`map`, `auc`, `d_prime` and, for up to 20 classes, `average_precision/NAME`."""
        listed = dataset.class_names if self.num_classes <= MAX_LISTED_CLASSES else ()
        return ("map", "auc", "d_prime", *(f"average_precision/{name}" for name in listed))

    def figure(
        self, outputs: Float[np.ndarray, "B K"], batch: Batch, dataset: Dataset
    ) -> Figure | None:
        """Up to 24 valid examples with the most probable class of each.

        None if there are several stretches of each.
        """
        given = [name for name in MODALITIES if name in batch]
        if batch[f"{given[0]}_present"].ndim > 1:
            return None
        rows = shown_rows(batch["valid"])
        return figures.tagged_examples(
            [figures.Shown(batch.get("sound"), batch.get("video"), row) for row in rows],
            np.asarray(self.targets(batch))[rows] == 1,
            scipy.special.expit(outputs[rows]),
            dataset.class_names,
        )


def model_inputs(batch: Batch) -> dict[str, Any]:
    """The keyword arguments of the model for a batch, see `SoundTagging`."""
    given = [name for name in MODALITIES if name in batch]
    inputs = {name: jnp.asarray(batch[name], jnp.float32) for name in given}
    if "video" in inputs:
        inputs["video"] = inputs["video"] / 127.5 - 1
    inputs["present"] = {name: batch[f"{name}_present"] for name in given}
    return {"inputs": inputs}
