"""What the parts of check_faults.py share: cases, and the table of what becomes of them."""

import collections
import contextlib
import signal
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from perceiver_io.errors import UserError

FAILED = ("WRONG", "TRACEBACK", "HUNG")
"""The outcomes that must not occur."""


class Case(NamedTuple):
    """One thing, broken in one way.

    kind: the way, a row of the table.
    name: what is broken.
    attempt: uses it; returns the outcome in a word or two, or raises.
    seconds: if it takes longer, it hangs.
    """

    kind: str
    name: str
    attempt: Callable[[], str]
    seconds: float = 120


class WrongError(Exception):
    """A wrong result, or a wrong value that was accepted."""


class _HungError(BaseException):  # which `except Exception` in the code under test lets pass
    """The time is up."""


def try_all(cases: Iterable[Case], *, show_all: bool = False) -> bool:
    """Tries cases, prints those that fail and a table of the outcomes; whether none failed."""
    counts: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for case in cases:
        outcome, details = tried(case)
        counts[case.kind][outcome] += 1
        if show_all or outcome in FAILED:
            print(f"{outcome:10} {case.kind:12} {case.name:50} {details}", flush=True)
    print(as_table(counts), flush=True)
    return not any(count[outcome] for count in counts.values() for outcome in FAILED)


def tried(case: Case) -> tuple[str, str]:
    """What becomes of a case, and the message."""
    try:
        with _time_limit(case.seconds):
            return case.attempt(), ""
    except UserError as error:
        is_paragraph = "\n" not in str(error)
        return "stopped" if is_paragraph else "WRONG", str(error)
    except WrongError as error:
        return "WRONG", str(error)
    except _HungError:
        return "HUNG", f"after {case.seconds} s"
    except Exception as error:
        return "TRACEBACK", repr(error)


def as_table(counts: dict[str, collections.Counter[str]]) -> str:
    """A row for each kind, a column for each outcome, at last those that must not occur."""
    rows = {**counts, "all": sum(counts.values(), collections.Counter())}
    columns = [*dict.fromkeys(x for row in rows.values() for x in row if x not in FAILED), *FAILED]
    width = max(map(len, rows))
    lines = [" " * width + "".join(f"{name:>{len(name) + 3}}" for name in columns)]
    for kind, row in rows.items():
        cells = (f"{row[name]:{len(name) + 3}}" for name in columns)
        lines.append(f"{kind:{width}}" + "".join(cells))
    return "\n".join(lines)


@contextlib.contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Raises _HungError in the main thread when the time is up."""

    def stop(signal_number, frame):
        raise _HungError

    handler = signal.signal(signal.SIGALRM, stop)
    timer = signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, *timer)
        signal.signal(signal.SIGALRM, handler)
