"""Where raw examples come from."""

import abc
import bisect
import itertools
from collections.abc import Sequence
from typing import Any

import grain
import numpy as np

# More examples than any training run will see; Grain counts them as floating-point numbers.
_ENDLESS = 2**50


class Source(abc.ABC):
    """Raw examples in named splits. Sent to worker processes, so fields must be small.

    Attributes:
        splits: the names of the splits.
        unlabelled_splits: benchmark splits whose ground truth is not published.
        class_names: the name of each class, by label; None where there are no classes.
    """

    splits: tuple[str, ...]
    unlabelled_splits: tuple[str, ...] = ()
    class_names: tuple[str, ...] | None = None

    @abc.abstractmethod
    def __call__(self, split: str) -> Sequence[Any]:
        """The split's raw examples, indexable and cheap to send to another process."""


class MixedExamples(Sequence[Any]):
    """The examples of several sources, one source after the other; `endless` mixes them."""

    def __init__(self, parts: Sequence[Sequence[Any]], weights: Sequence[float]) -> None:
        self.parts, self.weights = parts, weights
        self._ends = list(itertools.accumulate(map(len, parts)))

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index: int) -> Any:
        part = bisect.bisect_right(self._ends, index)
        return self.parts[part][index - (self._ends[part - 1] if part else 0)]


def one_of_each(examples: Sequence[Any]) -> list[Any]:
    """The first raw example of each source."""
    if isinstance(examples, MixedExamples):
        return [example for part in examples.parts for example in one_of_each(part)]
    return [examples[0]]


def endless(examples: Sequence[Any], seed: int) -> grain.MapDataset[Any]:
    """The raw examples repeated endlessly, reshuffled every epoch."""
    if isinstance(examples, MixedExamples):
        seeds = np.random.SeedSequence(seed).generate_state(len(examples.parts))
        parts = [endless(*part) for part in zip(examples.parts, map(int, seeds), strict=True)]
        return grain.MapDataset.mix(parts, examples.weights)
    source = grain.MapDataset.source(examples)
    return source.seed(seed).shuffle().repeat(_ENDLESS // len(examples))
