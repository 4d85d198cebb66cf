"""Profiles selected steps of a training run, for xprof or TensorBoard."""

from pathlib import Path

import jax
from jaxtyping import PyTree


class Profiler:
    """Traces the steps from `first` to `last`, inclusive, into a folder."""

    def __init__(self, folder: Path, first: int, last: int):
        self._folder = folder
        self._first = first
        self._last = last
        self._running = False

    def before(self, step: int) -> None:
        """Starts the trace if this is its first step."""
        if step == self._first:
            jax.profiler.start_trace(self._folder)
            self._running = True

    def after(self, step: int, result: PyTree) -> None:
        """Ends the trace if this was its last step, after waiting for the step's result."""
        if self._running and step == self._last:
            jax.block_until_ready(result)
            self.close()

    def close(self) -> None:
        """Ends the trace if it is still running."""
        if self._running:
            jax.profiler.stop_trace()
            self._running = False
