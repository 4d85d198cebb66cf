"""How the seconds of a run were spent, over all its attempts: its goodput.

An attempt is one start of the training program. `goodput.jsonl` in the run folder has a line for
each record: attempt, step, time of day, and the seconds that the attempt has spent so far on each
activity. What the host waits for is what counts: seconds in which the device computes one step and
the host fetches the next batch are seconds of data if the data came later, and of the step if not.
"""

import contextlib
import itertools
import json
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from perceiver_io.storage import Folder

FILE = "goodput.jsonl"
Activity = Literal["start", "compile", "data", "step", "evaluation", "checkpoint"]

LABELS = {
    "step": "training steps that count",
    "start": "start: building, restoring",
    "compile": "compiling, with the first step of each kind",
    "data": "waiting for data",
    "evaluation": "evaluation",
    "checkpoint": "checkpoints",
    "repeated": "lost to restarts: work after the last checkpoint",
    "stopped": "lost to restarts: from the last record to the next start",
}


class Record(NamedTuple):
    """One line of the ledger.

    Attributes:
        attempt: from 0.
        step: the number of steps that the run has taken.
        time: seconds since the epoch.
        seconds: of this attempt until now, by activity.
    """

    attempt: int
    step: int
    time: float
    seconds: Mapping[str, float]


class Ledger:
    """The ledger of one attempt, in memory: each second until now belongs to one activity."""

    def __init__(self) -> None:
        """Starts the clock."""
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._clock = time.perf_counter()

    def spent(self, activity: Activity) -> None:
        """Counts the seconds since the last call, or the start, as those of an activity."""
        now = time.perf_counter()
        self.seconds[activity] += now - self._clock
        self._clock = now


def append(path: Path, record: Record) -> None:
    """Adds a record to a ledger's file."""
    with path.open("a") as file:
        # After the line that an attempt which was killed may have left unfinished.
        file.write(f"\n{json.dumps(record._asdict())}")


def read(path: Folder) -> list[Record]:
    """The records of a ledger's file; none if there is no file. Damaged lines are skipped."""
    if not path.exists():
        return []
    records = []
    for line in path.read_bytes().split(b"\n"):
        with contextlib.suppress(ValueError, TypeError):
            records.append(Record(**json.loads(line)))
    return records


def totals(records: Sequence[Record]) -> dict[str, float]:
    """Seconds of all attempts by the keys of `LABELS`.

    An attempt resumes from a checkpoint: the seconds that the one before spent after its record of
    that step are `repeated`.
    """
    attempts = [list(group) for _, group in itertools.groupby(records, lambda x: x.attempt)]
    found = dict.fromkeys(LABELS, 0.0)
    for attempt, following in itertools.zip_longest(attempts, attempts[1:]):
        last = attempt[-1]
        kept = last
        if following is not None:
            before = [record for record in attempt if record.step <= following[0].step]
            kept = before[-1] if before else attempt[0]._replace(seconds={})
            found["stopped"] += max(following[0].time - _whole(following[0]) - last.time, 0)
        found["repeated"] += _whole(last) - _whole(kept)
        for activity, seconds in kept.seconds.items():
            found[activity] += seconds
    return found


def as_table(seconds: Mapping[str, float]) -> str:
    """Seconds and shares of the total, one activity a line."""
    whole = sum(seconds.values())
    width = max(map(len, LABELS.values()))
    lines = [f"{'seconds of the run':{width}}  {whole:11,.1f}"]
    lines += [
        f"{label:{width}}  {seconds[name]:11,.1f}  {seconds[name] / max(whole, 1e-9):6.1%}"
        for name, label in LABELS.items()
    ]
    return "\n".join(lines)


def as_line(seconds: Mapping[str, float]) -> str:
    """The largest shares of the total, in one line."""
    whole = sum(seconds.values())
    shares = sorted(((seconds[name] / max(whole, 1e-9), name) for name in seconds), reverse=True)
    listed = ", ".join(f"{name} {share:.0%}" for share, name in shares if share >= 0.005)
    return f"of {whole:,.0f} seconds: {listed}"


def _whole(record: Record) -> float:
    return sum(record.seconds.values())
