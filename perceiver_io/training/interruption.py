"""Handles SIGTERM, which clusters send before they preempt a machine, and Ctrl-C."""

import os
import signal

import jax
from jax.experimental import multihost_utils

_STDERR = 2
_STOPPING = b"\nsaving a checkpoint, then stopping; press Ctrl-C again to stop without saving\n"


class Interruption:
    """Receives SIGTERM and Ctrl-C, and lets all processes agree on the step after which to stop."""

    def __init__(self):
        """Installs the signal handler. With several processes JAX has already done so."""
        self._received = False
        if jax.process_count() == 1:
            signal.signal(signal.SIGTERM, self._receive)
        signal.signal(signal.SIGINT, self._pass_on)

    def reached(self, step: int) -> bool:
        """Whether to stop after this step. All processes must call it at every step.

        A signal to one process stops all of them, at a step that none of them has passed yet.
        """
        if jax.process_count() == 1:
            return self._received
        return multihost_utils.reached_preemption_sync_point(step)

    def _receive(self, signal_number, frame) -> None:
        self._received = True

    def _pass_on(self, signal_number, frame) -> None:
        """Treats Ctrl-C as a SIGTERM; a second one ends the program immediately."""
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        # Not `print`, which the signal may have interrupted.
        os.write(_STDERR, _STOPPING)
        os.kill(os.getpid(), signal.SIGTERM)
