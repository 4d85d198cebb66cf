"""Monitors the metrics of training steps without stalling the device."""

import math
from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from typing import Any

from jaxtyping import PyTree

# Number of steps that the host may be ahead of the device: enough to keep the device busy, but few
# enough to limit the batches that are queued on it.
_LAG = 2


class NotFiniteError(ArithmeticError):
    """A training step produced a loss, gradient or update that is not finite."""

    def __init__(self, step: int, metrics: Mapping[str, float]):
        self.step = step
        self.metrics = dict(metrics)
        super().__init__(f"step {step} gave {self.metrics}")


class Monitor:
    """Averages the metrics of steps, and stops training at a step that is not finite.

    A step's metrics are read while the device computes the next ones, so that neither host nor
    device waits. When `average` returns without an error, all steps so far have been checked,
    including their updates, so that it is safe to save the state.
    """

    def __init__(self, fetch: Callable[[PyTree], PyTree]):
        """`fetch` transfers the metrics of a step from the device."""
        self._fetch = fetch
        self._pending: deque[Any] = deque()
        self._totals: dict[str, float] = defaultdict(float)
        self._count = 0

    def add(self, step: int, metrics: Any) -> None:
        """Adds the metrics of a step. May raise NotFiniteError for an earlier step."""
        self._pending.append((step, metrics))
        while len(self._pending) > _LAG:
            self._read()

    def check(self) -> None:
        """Checks all steps so far. Raises NotFiniteError for the first that is not finite."""
        while self._pending:
            self._read()

    def average(self) -> dict[str, float]:
        """Means over the steps since the last call. Raises NotFiniteError as `check` does."""
        self.check()
        means = {name: total / self._count for name, total in self._totals.items()}
        self._totals.clear()
        self._count = 0
        return means

    def _read(self) -> None:
        step, metrics = self._pending.popleft()
        values = {name: float(value) for name, value in self._fetch(metrics).items()}
        if not all(map(math.isfinite, values.values())):
            raise NotFiniteError(step, values)
        for name, value in values.items():
            self._totals[name] += value
        self._count += 1
