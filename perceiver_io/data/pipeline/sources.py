"""Where raw examples come from: a source, or a weighted mixture of several, which is a source."""

import abc
import bisect
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import grain
import numpy as np

from perceiver_io.config.construct import construct, lookup
from perceiver_io.errors import UserError

# Examples of a training, more than any will ever see; Grain counts them as floating-point numbers.
_ENDLESS = 2**50


class Source(abc.ABC):
    """Raw examples in named splits. Sent to worker processes: keep large things out of its fields.

    Attributes:
        splits: the names of the splits.
        unlabelled_splits: those whose truth is not published, for benchmarks' servers.
        class_names: the name of each class, by label, where examples have one.
    """

    splits: tuple[str, ...]
    unlabelled_splits: tuple[str, ...] = ()
    class_names: tuple[str, ...] | None = None

    @abc.abstractmethod
    def __call__(self, split: str) -> Sequence[Any]:
        """The split's raw examples, by index, cheap to send to another process."""


class Mixture(Source):
    """Several sources as one, with the splits that all of them have.

    In training an example is of a part with the probability of its weight over all weights, in a
    fixed order in which the shares of any stretch are as exact as whole examples can be; each part
    is shuffled, and begins again, by itself. Evaluation goes through one part after the other.

    Args:
        parts: the sources by any names of their own, for errors.
        weights: of each part.

    Raises UserError for a weight that is not positive, and for parts whose classes differ.
    """

    def __init__(self, parts: Mapping[str, Source], weights: Mapping[str, float]) -> None:
        for name, weight in weights.items():
            if not weight > 0:
                raise UserError(
                    f"config.data.parts.{name}.weight={weight} must be above 0: leave the part out."
                )
        self._parts, self._weights = dict(parts), dict(weights)
        first, *others = parts.values()
        self.splits = tuple(s for s in first.splits if all(s in o.splits for o in others))
        self.unlabelled_splits = tuple(
            split
            for split in self.splits
            if any(split in part.unlabelled_splits for part in parts.values())
        )

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """Those of every part. Raises UserError where they differ."""
        names = {name: part.class_names for name, part in self._parts.items()}
        first, *others = names.values()
        if any(other != first for other in others):
            raise UserError(f"The parts of config.data.parts have different classes: {names}.")
        return first

    def __call__(self, split: str) -> "MixedExamples":
        """The split of every part. Raises UserError on one without examples."""
        parts = {name: part(split) for name, part in self._parts.items()}
        for name, examples in parts.items():
            if len(examples) == 0:
                raise UserError(
                    f"The split {split!r} of config.data.parts.{name} has no examples: leave the "
                    "part out."
                )
        return MixedExamples(tuple(parts.values()), tuple(self._weights.values()))


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


def endless(examples: Sequence[Any], seed: int) -> grain.MapDataset[Any]:
    """The raw examples without end, shuffled anew every time they begin again."""
    if isinstance(examples, MixedExamples):
        seeds = np.random.SeedSequence(seed).generate_state(len(examples.parts))
        parts = [endless(*part) for part in zip(examples.parts, map(int, seeds), strict=True)]
        return grain.MapDataset.mix(parts, examples.weights)
    source = grain.MapDataset.source(examples)
    return source.seed(seed).shuffle().repeat(_ENDLESS // len(examples))


def mixture_of(datasets: Mapping[str, Any]) -> Callable[..., Mixture]:
    """What makes mixtures of the sources of composed datasets.

    Args:
        datasets: what `config.data.name` chooses from.
    """

    def mixture(parts: Mapping[str, Any]) -> Mixture:
        """Each part has its `weight`, the `name` of a dataset and the keywords of its source."""
        sources, weights = {}, {}
        for key, section in parts.items():
            where = f"config.data.parts.{key}"
            settings = dict(section)
            if "weight" not in settings:
                raise UserError(f"{where} lacks weight: its share of the mixture over all weights.")
            weights[key] = settings.pop("weight")
            factory = lookup(datasets, settings, where)
            sources[key] = construct(factory.source, settings, where)
        if not sources:
            raise UserError("config.data.parts has no part: give at least one dataset.")
        return Mixture(sources, weights)

    return mixture
