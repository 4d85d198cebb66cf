"""What the annotation of a setting can say beside its type: limits, marks and inner sections.

`Annotated[int, ...]` is an `int` to everyone but `construct`, which reads the rest. It is the only
checker of settings.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, NamedTuple


class Limit(NamedTuple):
    """What a value must be, in words and as a test."""

    words: str
    holds: Callable[[Any], bool]


class Arguments(NamedTuple):
    """An inner section: the keyword arguments of a factory. A dataclass needs no such note."""

    factory: Callable[..., Any]


class Choice(NamedTuple):
    """An inner section whose `name` chooses a factory; the rest are its keyword arguments.

    `default` is the name where the section has none, or is left out.
    """

    factories: Mapping[str, Callable[..., Any]]
    default: str | None = None


class SameAs(NamedTuple):
    """A setting that, where it is None, is the same as another one of its section."""

    setting: str


UNSEEN = "changes what a model computes, and no array of it"
INPUT_SIZE = "sets the shape of what a model takes, or of what the data gives"


def within(least: float, greatest: float) -> Limit:
    """From `least` to `greatest`, both included."""
    return Limit(f"from {least:g} to {greatest:g}", lambda x: least <= x <= greatest)


def up_to(greatest: int, resource: str) -> Limit:
    """From 1 up to `greatest`, beyond which a machine has not enough of a resource."""
    words = f"at least 1 and at most {greatest:,}, since there is not the {resource} for more"
    return Limit(words, lambda x: 1 <= x <= greatest)


# Whole numbers are real ones to `construct`, but not to every checker of types.
Real = int | float

# Of steps and the like, which are counted in 32 bits; of examples in 64.
Count = Annotated[int, Limit("at least 1 and below 2**31", lambda x: 1 <= x < 2**31)]
Natural = Annotated[int, Limit("at least 0 and below 2**63", lambda x: 0 <= x < 2**63)]
# Of arrays: how wide or long they are.
Width = Annotated[int, up_to(2**20, "memory")]
Length = Annotated[int, up_to(2**24, "memory")]
# Of what is done again and again for every example.
Repeats = Annotated[int, up_to(10_000, "time")]
Workers = Annotated[int, within(0, 1024)]
Seed = Annotated[int, Limit("from 0 to 2**32 - 1", lambda x: 0 <= x < 2**32)]
Positive = Annotated[Real, Limit("above 0 and finite", lambda x: 0 < x < math.inf)]
NonNegative = Annotated[Real, Limit("at least 0 and finite", lambda x: 0 <= x < math.inf)]
# Of dropout, of moving averages, of smoothing: what would be left of 1 is nothing.
Rate = Annotated[Real, Limit("at least 0 and below 1", lambda x: 0 <= x < 1)]
Probability = Annotated[Real, within(0, 1)]
# A share of something that must not vanish.
Fraction = Annotated[Real, Limit("above 0 and at most 1", lambda x: 0 < x <= 1)]

ASCENDING = Limit("two numbers, the lesser one first", lambda pair: pair[0] <= pair[1])

EACH_ONCE = Limit("names that each occur once", lambda names: len(set(names)) == len(names))

Side = Annotated[int, up_to(2**14, "memory")]
Size = tuple[Side, Side]
"""Height and width."""

Normalization = tuple[Sequence[float], Sequence[float]]
"""Mean and standard deviation of each channel, where channel values go from 0 to 1."""
