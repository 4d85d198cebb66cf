"""Requests to stop."""

import os
import signal

import pytest

from perceiver_io.training.interruption import Interruption


@pytest.fixture
def interruption():
    """One whose signal handlers are gone after the test."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield Interruption()
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_noticed(interruption, number):
    assert not interruption.reached(1)
    os.kill(os.getpid(), number)
    assert interruption.reached(2)


def test_a_second_ctrl_c_ends_at_once(interruption):
    os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL
