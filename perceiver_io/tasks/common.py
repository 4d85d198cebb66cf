"""Progress of long computations."""

import sys
import time
from typing import Self

from tqdm import tqdm

_SECONDS_BETWEEN_LINES = 10


class Progress:
    """How much of a long computation is done, on stderr: a bar on a terminal, else some lines."""

    def __init__(self, total: int | None, unit: str):
        """Begins to count `unit`s; `total` None where their number is not known."""
        self._total, self._unit, self._done = total, unit, 0
        self._started = self._said = time.perf_counter()
        self._is_terminal = sys.stderr.isatty()
        self._bar = tqdm(
            total=total,
            unit=f" {unit}",
            unit_scale=True,
            dynamic_ncols=True,
            disable=not self._is_terminal,
        )

    def advance(self, count: int) -> None:
        """`count` more are done."""
        self._done += count
        self._bar.update(count)
        if time.perf_counter() - self._said > _SECONDS_BETWEEN_LINES:
            self._say()

    def _say(self) -> None:
        self._said = time.perf_counter()
        if not self._is_terminal:
            of_all = "" if self._total is None else f" of {self._total:,}"
            seconds = self._said - self._started
            line = f"{self._done:,}{of_all} {self._unit}, {seconds:.0f} s"
            if self._total and 0 < self._done < self._total:
                left = seconds / self._done * (self._total - self._done)
                line += f", about {left:.0f} s left"
            print(line, file=sys.stderr)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.close()
        if error == (None, None, None):
            self._say()
