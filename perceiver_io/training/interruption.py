"""A request to stop: SIGTERM, as clusters send it before they take a machine away."""

import signal

import jax
from jax.experimental import multihost_utils


class Interruption:
    """Notices SIGTERM, and lets all processes agree on the step to stop after."""

    def __init__(self):
        """Starts to listen. With several processes JAX itself does, from its start-up on."""
        self._received = False
        if jax.process_count() == 1:
            signal.signal(signal.SIGTERM, self._receive)

    def reached(self, step: int) -> bool:
        """Whether to stop after this step. All processes call it at every step.

        One process's signal stops all, at a step that none of them has passed.
        """
        if jax.process_count() == 1:
            return self._received
        return multihost_utils.reached_preemption_sync_point(step)

    def _receive(self, signal_number, frame) -> None:
        self._received = True
