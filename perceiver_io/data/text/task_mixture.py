"""Several sets of labelled texts as one, for a model of all these tasks (Perceiver IO, 4.1).

    config.data.name = "task_mixture"
    config.data.parts = dict(
        mrpc=dict(weight=3668.0, name="glue", root=ROOT, subset="mrpc"),
        stsb=dict(weight=5749.0, name="glue_scores", root=ROOT, score_mean=2.5),
    )

The number of a task is the place of its part. In training, parts are mixed in proportion to their
weights, as in `perceiver_io.data.pipeline.mixture`: weights in proportion to the numbers of
examples mean that each example is seen equally often, equal ones that each set is.
"""

import dataclasses
import inspect
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from perceiver_io.config.annotations import Finite, Positive
from perceiver_io.config.construct import construct, entries, lookup
from perceiver_io.data.pipeline.dataset import Composed, Example, Spec
from perceiver_io.data.pipeline.sources import LeftOut, MixedExamples, Source, merged
from perceiver_io.data.text.examples import LabelledText
from perceiver_io.data.text.preparation import LabelledTextPreparation
from perceiver_io.errors import UserError

# The choices of a part's `name`: sources of texts with classes, and of texts with scores.
_CLASSIFIED = {
    "glue": "perceiver_io.data.text.glue.glue_classes",
    "text_file": "perceiver_io.data.text.text_file.ClassifiedTexts",
}
_SCORED = {
    "glue_scores": "perceiver_io.data.text.glue.glue_scores",
    "scored_text_file": "perceiver_io.data.text.text_file.ScoredTexts",
}


class TaskText(NamedTuple):
    """A text or a pair, its class or score, the number of its task, and its name."""

    texts: tuple[str, ...]
    label: int | float
    task: int
    name: str


class Part(NamedTuple):
    """A set: its source, its share in training, and the scale of its scores, if it has any."""

    source: Source
    weight: float
    score_mean: float
    score_std: float


class TaskMixture(Source):
    """The sets as one source.

    The splits are those of the first part that all parts have, and for each part PART/SPLIT.

    Args:
        parts: by the names of their tasks.
    """

    def __init__(self, parts: Mapping[str, Part]) -> None:
        self.parts = dict(parts)
        first, *others = (part.source.splits for part in parts.values())
        common = [split for split in first if all(split in other for other in others)]
        own = [f"{name}/{s}" for name, part in parts.items() for s in part.source.splits]
        self.splits = (*common, *own)
        self.unlabelled_splits = tuple(split for split in self.splits if self._is_unlabelled(split))

    @property
    def class_names(self) -> tuple[str, ...]:
        """TASK/CLASS of all classes, by which a run recognises its data."""
        return tuple(
            f"{name}/{own}"
            for name, part in self.parts.items()
            for own in part.source.class_names or ()
        )

    @property
    def left_out(self) -> LeftOut:
        """The rows left out by all parts."""
        return merged(*(part.source.left_out for part in self.parts.values()))

    def __call__(self, split: str) -> Sequence[TaskText]:
        """The split of a part, or that of all parts together."""
        name, slash, own = split.rpartition("/")
        if slash:
            return self._of_part(name, own)
        weights = [part.weight for part in self.parts.values()]
        return MixedExamples([self._of_part(name, split) for name in self.parts], weights)

    def for_prediction(self) -> dict[str, Any]:
        """The columns of texts, the classes and the scale of scores of each task."""
        return {
            "tasks": {
                name: {
                    **part.source.for_prediction(),
                    "class_names": part.source.class_names,
                    "score_mean": part.score_mean,
                    "score_std": part.score_std,
                }
                for name, part in self.parts.items()
            }
        }

    def _of_part(self, name: str, split: str) -> "_OfTask":
        part = self.parts[name]
        return _OfTask(
            part.source(split), list(self.parts).index(name), part.score_mean, part.score_std
        )

    def _is_unlabelled(self, split: str) -> bool:
        name, _, own = split.rpartition("/")
        parts = [self.parts[name]] if name else self.parts.values()
        return any(own in part.source.unlabelled_splits for part in parts)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaskTextPreparation(LabelledTextPreparation):
    """`TaskText`s: `label` is the number of a class or the scaled score, as a float.

    `task` is the number of the task.
    """

    def training_example(self, raw: TaskText, rng: np.random.Generator) -> Example:
        """The text, its label and its task."""
        own = {"label": np.float32(raw.label), "task": np.int32(raw.task)}
        return super().training_example(raw, rng) | own

    def example_spec(self) -> Spec:
        """`text`, `text_mask`, `label` float32 and `task` int32."""
        own = {"label": ((), np.dtype(np.float32)), "task": ((), np.dtype(np.int32))}
        return super().example_spec() | own


def tasks_of(parts: Mapping[str, Any]) -> TaskMixture:
    """The source of the sections of parts. Raises UserError naming the one that is wrong."""
    made = {}
    for name, section in entries(parts, _WHERE).items():
        settings, where = entries(section, f"{_WHERE}.{name}"), f"{_WHERE}.{name}"
        factory = lookup(_CLASSIFIED | _SCORED, settings, where)
        part = _scored_part if settings["name"] in _SCORED else _classified_part
        keys = inspect.signature(part).parameters.keys() & settings.keys()
        own = {key: settings.pop(key) for key in keys}
        made[name] = Part(construct(factory, settings, where), **construct(part, own, where))
    if not made:
        raise UserError(f"{_WHERE} is empty: give at least one set.")
    return TaskMixture(made)


task_mixture = Composed(tasks_of, TaskTextPreparation)

_WHERE = "config.data.parts"


def _classified_part(weight: Positive) -> dict[str, float]:
    """The settings of a part with classes besides those of its source."""
    return dict(weight=weight, score_mean=0.0, score_std=1.0)


def _scored_part(
    weight: Positive, score_mean: Finite = 0.0, score_std: Positive = 1.0
) -> dict[str, float]:
    """Those of a part with scores: what is learned is (score - score_mean) / score_std."""
    return dict(weight=weight, score_mean=score_mean, score_std=score_std)


class _OfTask(Sequence[TaskText]):
    """The examples of a set with the number of its task and scaled scores."""

    def __init__(self, examples: Sequence[LabelledText], task: int, mean: float, std: float):
        self._examples, self._task, self._mean, self._std = examples, task, mean, std

    def __len__(self) -> int:
        return len(self._examples)

    def __getitem__(self, index: int) -> TaskText:
        texts, label, name = self._examples[index]
        return TaskText(texts, (label - self._mean) / self._std, self._task, name)
