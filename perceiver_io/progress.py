"""Progress reports and messages; with several processes only the first one prints."""

import sys
import time
from typing import Self, TextIO

import jax
from tqdm import tqdm

_SECONDS_BETWEEN_LINES = 10
_LONG_NUMBER = 1_000_000


def say(message: str, file: TextIO | None = None) -> None:
    """Prints a message to a file or stdout, above a progress bar if there is one."""
    if jax.process_index() == 0:
        file = file or sys.stdout
        tqdm.write(message, file=file)
        file.flush()


class Progress:
    """Progress on stderr: a bar on a terminal, else a line now and then."""

    def __init__(self, total: int | None, unit: str, *, start: int = 0):
        """Starts the count.

        Args:
            total: the total number of items; None if unknown.
            unit: what the items are, in the plural.
            start: the number of items already done.
        """
        self._total, self._unit = total, unit
        self._start = self._done = start
        self._told: int | None = None
        self._started = self._told_at = time.perf_counter()
        self._is_terminal = sys.stderr.isatty()
        self._bar = tqdm(
            initial=start,
            total=total,
            unit=f" {unit}",
            unit_scale=(total or 0) > _LONG_NUMBER,
            dynamic_ncols=True,
            leave=None,  # keep the outermost bar on the screen, but no nested ones
            disable=not self._is_terminal or jax.process_index() != 0,
        )

    def advance(self, count: int = 1) -> None:
        """Reports `count` more items as done."""
        self._done += count
        self._bar.update(count)
        if time.perf_counter() - self._told_at > _SECONDS_BETWEEN_LINES:
            self._tell()

    def show(self, text: str) -> None:
        """Shows a text after the bar, or prints a line that ends with it."""
        self._bar.set_postfix_str(text)
        self._tell(f"  {text}")

    def _tell(self, text: str = "") -> None:
        self._told, self._told_at = self._done, time.perf_counter()
        if self._is_terminal or jax.process_index() != 0:
            return
        of_all = "" if self._total is None else f" of {self._total:,}"
        seconds = self._told_at - self._started
        line = f"{self._done:,}{of_all} {self._unit}, {_duration(seconds)}"
        if self._total and self._start < self._done < self._total:
            left = seconds / (self._done - self._start) * (self._total - self._done)
            line += f", about {_duration(left)} left"
        print(line + text, file=sys.stderr, flush=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.close()
        if error == (None, None, None) and self._told != self._done:
            self._tell()


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {seconds:02d} s" if minutes else f"{seconds} s"
