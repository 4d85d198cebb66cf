"""Handles SIGTERM, which clusters send before they preempt a machine."""

import signal

import jax
from jax.experimental import multihost_utils


class Interruption:
    """Receives SIGTERM, and lets all processes agree on the step after which to stop."""

    def __init__(self):
        """Installs the signal handler. With several processes JAX has already done so."""
        self._received = False
        if jax.process_count() == 1:
            signal.signal(signal.SIGTERM, self._receive)

    def reached(self, step: int) -> bool:
        """Whether to stop after this step. All processes must call it at every step.

        A signal to one process stops all of them, at a step that none of them has passed yet.
        """
        if jax.process_count() == 1:
            return self._received
        return multihost_utils.reached_preemption_sync_point(step)

    def _receive(self, signal_number, frame) -> None:
        self._received = True
