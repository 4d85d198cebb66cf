"""What the annotation of a setting can state besides its type: limits, marks, nested sections.

`Annotated[int, ...]` is a plain `int` except to `construct`, which reads the rest and is the only
place where settings are checked.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, NamedTuple


class Limit(NamedTuple):
    """A condition on a value, in words and as a predicate."""

    words: str
    holds: Callable[[Any], bool]


class Arguments(NamedTuple):
    """A nested section: the keyword arguments of a factory. Dataclasses need no such annotation."""

    factory: Callable[..., Any]


class Choice(NamedTuple):
    """A nested section whose `name` chooses a factory; the rest are its keyword arguments.

    `default` is the name if the section has none, or is omitted.
    """

    factories: Mapping[str, Callable[..., Any]]
    default: str | None = None


class SameAs(NamedTuple):
    """A setting that defaults to another setting of its section if it is None."""

    setting: str


UNSEEN = "changes what a model computes, but not the shape of any parameter"
INPUT_SIZE = "sets the shape of a model's inputs, or of the data"


def within(least: float, greatest: float) -> Limit:
    """From `least` to `greatest`, inclusive."""
    return Limit(f"from {least:g} to {greatest:g}", lambda x: least <= x <= greatest)


def up_to(greatest: int, resource: str) -> Limit:
    """From 1 to `greatest`; more would need too much of a resource, `memory` or `time`."""
    words = f"at least 1 and at most {greatest:,}, since more would need too much {resource}"
    return Limit(words, lambda x: 1 <= x <= greatest)


# `construct` accepts an int where a float is wanted, but not every type checker does.
Real = int | float

# Numbers of steps are 32-bit integers, numbers of examples 64-bit integers.
Count = Annotated[int, Limit("at least 1 and below 2**31", lambda x: 1 <= x < 2**31)]
Natural = Annotated[int, Limit("at least 0 and below 2**63", lambda x: 0 <= x < 2**63)]
# Sizes of arrays.
Width = Annotated[int, up_to(2**20, "memory")]
Length = Annotated[int, up_to(2**24, "memory")]
# Numbers of layers and the like, which run sequentially.
Repeats = Annotated[int, up_to(10_000, "time")]
Workers = Annotated[int, within(0, 1024)]
Finite = Annotated[Real, within(-1e6, 1e6)]
Seed = Annotated[int, Limit("from 0 to 2**32 - 1", lambda x: 0 <= x < 2**32)]
Positive = Annotated[Real, Limit("above 0 and at most 1,000,000", lambda x: 0 < x <= 1e6)]
NonNegative = Annotated[Real, Limit("at least 0 and at most 1,000,000", lambda x: 0 <= x <= 1e6)]
# For dropout, moving averages and label smoothing, where 1 would leave nothing.
Rate = Annotated[Real, Limit("at least 0 and below 1", lambda x: 0 <= x < 1)]
Probability = Annotated[Real, within(0, 1)]
# A nonzero share of something.
Fraction = Annotated[Real, Limit("above 0 and at most 1", lambda x: 0 < x <= 1)]

SUM_OF_ONE = Limit("numbers that add up to 1", lambda shares: abs(sum(shares) - 1) <= 1e-6)
ASCENDING = Limit("two numbers in ascending order", lambda pair: pair[0] <= pair[1])

Text = Annotated[str, Limit("a text that is not empty", bool)]

EACH_ONCE = Limit("values that each occur once", lambda values: len(set(values)) == len(values))

Side = Annotated[int, up_to(2**14, "memory")]
Size = tuple[Side, Side]
"""Height and width."""

Normalization = tuple[Sequence[float], Sequence[float]]
"""Mean and standard deviation of each channel, for values scaled to 0 to 1."""
