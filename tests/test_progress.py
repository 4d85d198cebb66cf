"""Progress: lines if there is no terminal, a bar if there is one."""

import contextlib
import itertools

import pytest

from perceiver_io import progress
from perceiver_io.errors import UserError
from perceiver_io.progress import Progress


@pytest.fixture
def clock(monkeypatch):
    """A clock controlled by the test: its only entry is the time in seconds."""
    seconds = [0.0]
    monkeypatch.setattr(progress.time, "perf_counter", lambda: seconds[0])
    return seconds


def test_the_end_is_reported_unless_there_was_an_error(capsys):
    with Progress(10, "tiles") as tiles:
        tiles.advance(4)
        tiles.advance(6)
    captured = capsys.readouterr()
    assert captured.err == "10 of 10 tiles, 0 s\n" and not captured.out
    with contextlib.suppress(UserError), Progress(10, "tiles"):
        raise UserError("no")
    assert not capsys.readouterr().err


def test_lines_come_at_intervals(capsys, monkeypatch):
    monkeypatch.setattr(progress, "_SECONDS_BETWEEN_LINES", 0)
    ticks = itertools.count(100)  # one second passes with each call
    monkeypatch.setattr(progress.time, "perf_counter", lambda: next(ticks))
    with Progress(10, "tiles") as tiles:
        tiles.advance(4)
    assert capsys.readouterr().err == "4 of 10 tiles, 2 s, about 3 s left\n"
    with Progress(None, "tiles") as tiles:
        tiles.advance(4)
    assert capsys.readouterr().err == "4 tiles, 2 s\n"


def test_steps_of_a_resumed_training_with_their_loss(capsys, clock):
    with Progress(1100, "steps", start=100) as steps:
        for _ in range(10):
            clock[0] += 75
            steps.advance()
        capsys.readouterr()
        steps.show("loss 0.25")
    assert capsys.readouterr().err == (
        "110 of 1,100 steps, 12 min 30 s, about 20 h 37 min left  loss 0.25\n"
    )


def test_a_bar_shows_the_same(monkeypatch, capsys):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    shown = []
    monkeypatch.setattr(progress.tqdm, "set_postfix_str", lambda bar, text: shown.append(text))
    with Progress(4, "steps", start=2) as steps:
        steps.advance()
        steps.show("loss 0.25")
    assert shown == ["loss 0.25"]
    assert "3/4" in capsys.readouterr().err
