"""Predicts with a model of several tasks, for one of them at a time."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Bool, Int32, PyTree

from perceiver_io.config.construct import listing, nearest
from perceiver_io.errors import UserError
from perceiver_io.models.architectures import Architecture
from perceiver_io.tasks.predictor import Predictor, Report, Trained
from perceiver_io.tasks.sentences import SentencePredictor, Sentences
from perceiver_io.tasks.text_classification.prediction import TextClassifier
from perceiver_io.tasks.text_regression.prediction import TextScorer


class TextMultitasker(Predictor):
    """A predictor for each task.

    Attributes:
        tasks: `TextClassifier`s and `TextScorer`s by the names of their tasks.
    """

    def __init__(self, trained: Trained):
        super().__init__(trained)
        self.tasks = {
            name: _of_task(self.trained, number, settings)
            for number, (name, settings) in enumerate(trained.prepared("tasks").items())
        }

    def predict(self, texts: Sentences, *, subset: str, batch_size: int = 32) -> Any:
        """What the predictor of the task named `subset` says of texts or pairs.

        Raises UserError for an unknown task, and as that predictor does.
        """
        return self._of(subset).predict(texts, batch_size=batch_size)

    def write(
        self,
        output: Path,
        *,
        subset: str,
        text: Sequence[str] = (),
        inputs: Sequence[str] = (),
        columns: Sequence[str] = (),
        batch_size: int = 32,
    ) -> Report:
        """Writes the answers of the task named `subset`; the others as for its predictor."""
        settings = dict(text=text, inputs=inputs, columns=columns, batch_size=batch_size)
        return self._of(subset).write(output, **settings)

    def _of(self, name: str) -> SentencePredictor:
        if name not in self.tasks:
            raise UserError(
                f"The model was not trained on {name!r}{nearest(name, self.tasks)}. Its tasks are "
                f"{listing(self.tasks)}: choose one with --subset."
            )
        return self.tasks[name]


def _of_task(trained: Trained, number: int, settings: Mapping[str, Any]) -> SentencePredictor:
    """The predictor of one task, with the same weights."""
    names = settings["class_names"]
    count = 1 if names is None else len(names)

    def apply(
        params: PyTree,
        state: PyTree,
        rng: None,
        *,
        inputs: Int32[Array, "B M"],
        input_mask: Bool[Array, "B M"],
        is_training: bool,
    ) -> tuple[Array, PyTree]:
        task = jnp.full(len(inputs), number, jnp.int32)
        outputs, state = trained.model.apply(
            params,
            state,
            rng,
            inputs={"ids": inputs, "task": task},
            input_mask=input_mask,
            query=task,
            is_training=is_training,
        )
        return outputs[:, number, :count], state

    single = trained._replace(
        model=Architecture(apply, apply, apply, apply),
        section={**trained.section, "num_classes": count},
        class_names=names,
        preparation={**trained.preparation, **settings},
    )
    return TextScorer(single) if names is None else TextClassifier(single)
