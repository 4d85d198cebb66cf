"""Requests to stop."""

import contextlib
import os
import signal

import pytest

from perceiver_io.training.interruption import Interruption


@pytest.fixture
def interruption():
    """One that listens, and whose signal handlers are gone after the test."""
    with contextlib.closing(Interruption()) as interruption:
        interruption.listen()
        yield interruption


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_noticed(interruption, number):
    assert not interruption.reached(1)
    os.kill(os.getpid(), number)
    assert interruption.reached(2)


def test_a_second_ctrl_c_ends_at_once(interruption):
    os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL


def test_the_handlers_of_before_are_restored():
    def handlers():
        return [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]

    before = handlers()
    interruption = Interruption()
    interruption.listen()
    during = handlers()
    interruption.close()
    assert handlers() == before and not set(during) & set(before)
