"""Handles SIGTERM, which clusters send before they preempt a machine, and Ctrl-C."""

import os
import signal
from typing import Any

import jax
from jax.experimental import multihost_utils

_STDERR = 2
_STOPPING = b"\nsaving a checkpoint, then stopping; press Ctrl-C again to stop without saving\n"


class Interruption:
    """Receives SIGTERM and Ctrl-C, and lets all processes agree on the step after which to stop."""

    def __init__(self):
        self._received: signal.Signals | None = None
        self._replaced: dict[int, Any] = {}

    def listen(self) -> None:
        """Installs the signal handlers. With several processes JAX has that of SIGTERM already."""
        if jax.process_count() == 1:
            self._replaced[signal.SIGTERM] = signal.signal(signal.SIGTERM, self._receive)
        self._replaced[signal.SIGINT] = signal.signal(signal.SIGINT, self._pass_on)

    @property
    def cause(self) -> str:
        """What was received, in words."""
        if self._received is not None:
            return self._received.name
        return "SIGTERM to one of the processes"

    def close(self) -> None:
        """Restores the signal handlers that `listen` has replaced."""
        for number, handler in self._replaced.items():
            signal.signal(number, handler)

    def reached(self, step: int) -> bool:
        """Whether to stop after this step. All processes must call it at every step.

        A signal to one process stops all of them, at a step that none of them has passed yet.
        """
        if jax.process_count() == 1:
            return self._received is not None
        return multihost_utils.reached_preemption_sync_point(step)

    def _receive(self, signal_number, frame) -> None:
        self._received = self._received or signal.SIGTERM

    def _pass_on(self, signal_number, frame) -> None:
        """Treats Ctrl-C as a SIGTERM; a second one ends the program immediately."""
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        if jax.process_count() == 1:
            self._received = signal.SIGINT
        # Not `print`, which the signal may have interrupted.
        os.write(_STDERR, _STOPPING)
        os.kill(os.getpid(), signal.SIGTERM)
