"""Several tasks on sentences and pairs in one model (Perceiver IO, section 4.1)."""

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float
from matplotlib.figure import Figure

from perceiver_io.config.annotations import EACH_ONCE, Text, Width
from perceiver_io.config.construct import listing
from perceiver_io.data.pipeline.dataset import Dataset
from perceiver_io.data.text import SEVERAL_TASKS
from perceiver_io.data.text.task_mixture import TaskMixture
from perceiver_io.errors import UserError
from perceiver_io.losses import sum_and_count
from perceiver_io.tasks.evaluation import Evaluator
from perceiver_io.tasks.task import Batch, Section, Task
from perceiver_io.tasks.text_classification.task import TextClassification
from perceiver_io.tasks.text_multitask.evaluation import AllTasks
from perceiver_io.tasks.text_regression.task import correlations
from perceiver_io.tasks.vocabulary import check_vocabulary_of

# Added to the logits of classes that a task lacks; finite, so that gradients are.
_IMPOSSIBLE = -1e9


@dataclasses.dataclass(frozen=True)
class TextMultitask(Task):
    """Classes or scores of sentences and pairs, for several tasks at once.

    Batches hold `text` [B, M] (token ids), `text_mask` [B, M], `task` [B] (its number), `label` [B]
    (float32: the number of a class, or a scaled score) and `valid` [B]. The model's outputs are
    [B, T, K]: of each of the T tasks logits, of which it may use fewer than K, or a score.

    The loss is the mean over examples: cross-entropy for classes, the squared error for scores.

    Attributes:
        tasks: their names, in the order of config.data.parts.
        num_classes: of each; 1 for scores.
        metrics_averaged: of each, the metric that counts in the average.
    """

    tasks: Annotated[tuple[Text, ...], EACH_ONCE]
    num_classes: tuple[Width, ...]
    metrics_averaged: tuple[Text, ...]

    datasets: ClassVar[Mapping[str, str]] = SEVERAL_TASKS

    def __post_init__(self) -> None:
        if not len(self.tasks) == len(self.num_classes) == len(self.metrics_averaged):
            raise UserError(
                f"config.task has {len(self.tasks)} tasks, {len(self.num_classes)} num_classes and "
                f"{len(self.metrics_averaged)} metrics_averaged: give one of each for each task."
            )

    def check_dataset(self, dataset: Dataset) -> None:
        """Raises UserError if the dataset has other tasks, or other classes."""
        parts = cast(TaskMixture, dataset.source).parts
        if tuple(parts) != self.tasks:
            raise UserError(
                f"config.data.parts are {listing(parts)}, but config.task.tasks is "
                f"{listing(self.tasks)}: let both have the same names in the same order."
            )
        for count, (name, part) in zip(self.num_classes, parts.items(), strict=True):
            found = len(part.source.class_names or [name])
            if found != count:
                raise UserError(
                    f"config.data.parts.{name} has {found} classes (scores count as one), but "
                    f"config.task.num_classes has {count} for it: change the latter."
                )

    def check_model(self, section: Section, dataset: Dataset) -> None:
        """Raises UserError if the tokenizer has another vocabulary."""
        check_vocabulary_of(dataset, section)

    def model_inputs(self, batch: Batch) -> dict[str, Any]:
        """The token ids, which are no padding, and the tasks, also as queries."""
        return {
            "inputs": {"ids": batch["text"], "task": batch["task"]},
            "input_mask": batch["text_mask"],
            "query": batch["task"],
        }

    def loss_masks(self, batch: Batch) -> dict[str, Bool[Array, " B"]]:
        """The valid examples."""
        return {"loss": jnp.asarray(batch["valid"])}

    def losses(self, outputs: Float[Array, "B T K"], batch: Batch) -> dict[str, Float[Array, " B"]]:
        """Cross-entropy in nats, or the squared error, by the kind of each example's task."""
        own, is_score = self._own(outputs, batch), self._is_score(batch)
        label = jnp.where(is_score, 0, batch["label"]).astype(jnp.int32)
        log_p = jax.nn.log_softmax(own)
        entropy = -jnp.take_along_axis(log_p, label[:, None], axis=1)[:, 0]
        return {"loss": jnp.where(is_score, jnp.square(own[:, 0] - batch["label"]), entropy)}

    def metrics(
        self, outputs: Float[Array, "B T K"], batch: Batch
    ) -> dict[str, tuple[Float[Array, ""], Float[Array, ""]]]:
        """`accuracy` of the examples with classes."""
        is_right = jnp.argmax(self._own(outputs, batch), -1) == batch["label"]
        has_class = jnp.asarray(batch["valid"]) & ~self._is_score(batch)
        return {"accuracy": sum_and_count(is_right, has_class)}

    def predictions(self, outputs: Float[Array, "B T K"], batch: Batch) -> dict[str, Array]:
        """The task, the true class or score, and the predicted one, each [B]."""
        own = self._own(outputs, batch)
        found = jnp.where(self._is_score(batch), own[:, 0], jnp.argmax(own, -1))
        tasks, labels = jnp.asarray(batch["task"]), jnp.asarray(batch["label"])
        return {"task": tasks, "label": labels, "prediction": found}

    def report(
        self, predictions: Mapping[str, np.ndarray], dataset: Dataset
    ) -> tuple[dict[str, float], dict[str, Figure]]:
        """The metrics of a single task, as those of `TextClassification` or `TextRegression`.

        Raises ValueError for examples of several tasks, whose metrics are different.
        """
        del dataset
        (number,) = np.unique(predictions["task"])
        label, found = predictions["label"], predictions["prediction"]
        if self.num_classes[number] == 1:
            return correlations(label, found), {}
        classes = TextClassification(self.num_classes[number])
        return classes.scores(label.astype(int), found.astype(int)), {}

    def reported(self, dataset: Dataset) -> tuple[str, ...]:
        """The metrics of all tasks."""
        names = {"pearson", "spearman"} if 1 in self.num_classes else set()
        for count in self.num_classes:
            names |= set(TextClassification(count).reported(dataset)) if count > 1 else set()
        return tuple(sorted(names))

    def evaluators(self, config: Section) -> dict[str, Evaluator]:
        """For each split of the config, all tasks and their average."""
        dataset, evaluation = self.build_dataset(config["data"]), config["evaluation"]
        return {
            split: AllTasks(self, dataset, split, evaluation["batch_size"])
            for split in evaluation["splits"]
        }

    def _own(self, outputs: Float[Array, "B T K"], batch: Batch) -> Float[Array, "B K"]:
        """The outputs for each example's own task; impossible where it has no such class."""
        if outputs.shape[1] != len(self.tasks) or outputs.shape[2] < max(self.num_classes):
            raise UserError(
                f"The model has {outputs.shape[1]} tasks with {outputs.shape[2]} outputs each, but "
                f"config.task has {len(self.tasks)} with up to {max(self.num_classes)} classes: "
                "set config.model.num_tasks and config.model.num_outputs to these."
            )
        own = jnp.take_along_axis(outputs, batch["task"][:, None, None], axis=1)[:, 0]
        counts = jnp.array(self.num_classes)[batch["task"]]
        return jnp.where(jnp.arange(outputs.shape[2]) < counts[:, None], own, _IMPOSSIBLE)

    def _is_score(self, batch: Batch) -> Bool[Array, " B"]:
        return (jnp.array(self.num_classes) == 1)[batch["task"]]
