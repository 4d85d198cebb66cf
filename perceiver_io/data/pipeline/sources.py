"""Where raw examples come from."""

import abc
import bisect
import dataclasses
import itertools
import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import grain
import numpy as np

from perceiver_io.errors import UserError

# More examples than any training run will see; Grain counts them as floating-point numbers.
_ENDLESS = 2**50
_SHOWN = 3

LeftOut = Mapping[str, Sequence[str]]
"""Files that a source found but left out: their paths, by kind."""


class Source(abc.ABC):
    """Raw examples in named splits. Sent to worker processes, so fields must be small.

    Attributes:
        splits: the names of the splits.
        unlabelled_splits: benchmark splits whose ground truth is not published.
        class_names: the name of each class, by label; None where there are no classes.
        left_out: files in the data's folder that are not examples.
    """

    splits: tuple[str, ...]
    unlabelled_splits: tuple[str, ...] = ()
    class_names: tuple[str, ...] | None = None
    left_out: LeftOut = MappingProxyType({})

    @abc.abstractmethod
    def __call__(self, split: str) -> Sequence[Any]:
        """The split's raw examples, indexable and cheap to send to another process.

        Examples in files may have two more attributes: `names`, independent of the location of the
        data, and `broken`, which gives the reason, by index, for each example that is evidently
        unreadable.
        """

    def for_prediction(self) -> dict[str, Any]:
        """What is needed to read inputs of the same kind; stored with trained weights."""
        return {}


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


@dataclasses.dataclass(frozen=True)
class ReadOnUse(Sequence[Any]):
    """Examples that each process reads when it needs them, so that little is sent to it.

    Attributes:
        read: returns them all, and remembers them. It is sent instead of them.
    """

    read: Callable[[], Sequence[Any]]

    def __len__(self) -> int:
        return len(self.read())

    def __getitem__(self, index: int) -> Any:
        return self.read()[index]

    @property
    def names(self) -> list[str]:
        """The name of each."""
        return [example.name for example in self.read()]


class KeptExamples(Sequence[Any]):
    """The examples at some indices."""

    def __init__(self, examples: Sequence[Any], indices: Sequence[int]) -> None:
        self._examples, self._indices = examples, np.array(indices, np.int64)

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> Any:
        return self._examples[int(self._indices[index])]


class WeightedExamples(Sequence[Any]):
    """Examples that training draws at random with weights, instead of each once per epoch."""

    def __init__(self, examples: Sequence[Any], weights: Sequence[float]) -> None:
        self.examples, self.weights = examples, np.array(weights, np.float64)
        self._ends = np.cumsum(self.weights)

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> Any:
        return self.examples[index]

    def drawn(self, position: int, rng: np.random.Generator) -> Any:
        """A random example, whatever the position."""
        del position
        place = np.searchsorted(self._ends, rng.random() * self._ends[-1], side="right")
        return self.examples[int(place)]


def names_of(examples: Sequence[Any]) -> list[str]:
    """The names of examples, or their indices if they have none."""
    if isinstance(examples, WeightedExamples):
        return names_of(examples.examples)
    if isinstance(examples, MixedExamples):
        parts = enumerate(examples.parts)
        return [f"{number}/{name}" for number, part in parts for name in names_of(part)]
    return list(getattr(examples, "names", map(str, range(len(examples)))))


def broken_of(examples: Sequence[Any]) -> dict[int, str]:
    """The evidently unreadable examples: the reason, by index."""
    if isinstance(examples, WeightedExamples):
        return broken_of(examples.examples)
    if isinstance(examples, MixedExamples):
        found, start = {}, 0
        for part in examples.parts:
            found |= {start + index: reason for index, reason in broken_of(part).items()}
            start += len(part)
        return found
    return dict(getattr(examples, "broken", {}))


def without(examples: Sequence[Any], indices: Collection[int]) -> Sequence[Any]:
    """The examples except those at some indices; a mixture stays a mixture.

    Raises UserError if no example is left, or none of a part of a mixture.
    """
    if isinstance(examples, MixedExamples):
        parts, start = [], 0
        for part in examples.parts:
            parts.append(without(part, {i - start for i in indices}))
            start += len(part)
        return MixedExamples(parts, examples.weights)
    kept = [index for index in range(len(examples)) if index not in indices]
    if not kept:
        raise UserError(f"All {len(examples)} examples are broken: replace them, or choose others.")
    if isinstance(examples, WeightedExamples):
        return WeightedExamples(KeptExamples(examples.examples, kept), examples.weights[kept])
    return KeptExamples(examples, kept)


def merged(*parts: LeftOut) -> LeftOut:
    """Merges several into one."""
    kinds = dict.fromkeys(kind for part in parts for kind in part)
    return {kind: [path for part in parts for path in part.get(kind, ())] for kind in kinds}


def left_out_clause(left_out: LeftOut) -> str:
    """The number of files of each kind with some names, to append to a line; may be empty."""
    parts = []
    for kind, paths in left_out.items():
        parts.append(f"{kind} {len(paths)} ({shortened(map(os.path.basename, paths))})")
    return f"; left out: {', '.join(parts)}" if parts else ""


def shortened(names: Iterable[str]) -> str:
    """The first few names, with an ellipsis if there are more."""
    first = list(itertools.islice(names, _SHOWN + 1))
    return ", ".join([*first[:_SHOWN], "..."] if len(first) > _SHOWN else first)


def one_of_each(examples: Sequence[Any]) -> list[Any]:
    """The first raw example of each source."""
    if isinstance(examples, MixedExamples):
        return [example for part in examples.parts for example in one_of_each(part)]
    return [examples[0]]


def endless(examples: Sequence[Any], seed: int) -> grain.MapDataset[Any]:
    """The raw examples repeated endlessly, reshuffled every epoch, or drawn with weights."""
    if isinstance(examples, MixedExamples):
        seeds = np.random.SeedSequence(seed).generate_state(len(examples.parts))
        parts = [endless(*part) for part in zip(examples.parts, map(int, seeds), strict=True)]
        return grain.MapDataset.mix(parts, examples.weights)
    if isinstance(examples, WeightedExamples):
        return grain.MapDataset.range(_ENDLESS).seed(seed).random_map(examples.drawn)
    source = grain.MapDataset.source(examples)
    return source.seed(seed).shuffle().repeat(_ENDLESS // len(examples))
