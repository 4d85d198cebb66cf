"""A request to stop: SIGTERM, as clusters send it before they take a machine away, or Ctrl-C."""

import os
import signal

import jax
from jax.experimental import multihost_utils

_STDERR = 2
_STOPPING = b"\nstopping, with a checkpoint; Ctrl-C once more ends at once, without one\n"


class Interruption:
    """Notices SIGTERM and Ctrl-C, and lets all processes agree on the step to stop after."""

    def __init__(self):
        """Starts to listen. With several processes JAX itself does, from its start-up on."""
        self._received = False
        if jax.process_count() == 1:
            signal.signal(signal.SIGTERM, self._receive)
        signal.signal(signal.SIGINT, self._pass_on)

    def reached(self, step: int) -> bool:
        """Whether to stop after this step. All processes call it at every step.

        One process's signal stops all, at a step that none of them has passed.
        """
        if jax.process_count() == 1:
            return self._received
        return multihost_utils.reached_preemption_sync_point(step)

    def _receive(self, signal_number, frame) -> None:
        self._received = True

    def _pass_on(self, signal_number, frame) -> None:
        """Ctrl-C is a SIGTERM; a second one ends the program at once."""
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        # Not by `print`, which this may have interrupted.
        os.write(_STDERR, _STOPPING)
        os.kill(os.getpid(), signal.SIGTERM)
