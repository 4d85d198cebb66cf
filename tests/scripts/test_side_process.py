"""Sides of a comparison: their time and memory measurements, and how they end."""

import os
import pathlib
import re
import subprocess
import sys

import pytest

from perceiver_io.errors import UserError
from scripts.side_process import Side, busy_processors, processors

MEGABYTE = 2**20
SERVER = """
import time
from scripts.side_process import serve

kept = bytearray(64 * 2**20)
freed = b"x" * (200 * 2**20)
del freed
serve(
    {
        "take": lambda: bytearray(100 * 2**20),
        "sleep": lambda: time.sleep(0.2),
        "fail": lambda: 1 / 0,
    },
    name="a side",
)
"""


def side(code=SERVER):
    return Side([sys.executable, "-c", code], processors(1))


def test_peak_is_measured_from_rest():
    with side() as process:
        idle = process.facts["idle"]
        assert process.facts["name"] == "a side"
        assert 64 * MEGABYTE < idle < 128 * MEGABYTE
        assert process.ask("sleep")["peak"] - idle < 20 * MEGABYTE
        for _ in range(2):
            assert 99 * MEGABYTE < process.ask("take")["peak"] - idle < 120 * MEGABYTE


def test_time_of_a_command():
    with side() as process:
        assert process.ask("sleep")["seconds"] >= 0.2


def test_a_side_that_fails_is_an_error():
    with side() as process, pytest.raises(subprocess.CalledProcessError):
        process.ask("fail")
    with pytest.raises(subprocess.CalledProcessError, match="status 3"):
        side("raise SystemExit(3)")


def test_a_side_runs_on_the_given_processors():
    code = (
        "import os; from scripts.side_process import serve; "
        "serve({}, cores=len(os.sched_getaffinity(0)))"
    )
    with side(code) as process:
        assert process.facts["cores"] == 1


def test_processors():
    usable = len(os.sched_getaffinity(0))
    assert set(processors(usable)) == os.sched_getaffinity(0)
    for count in (0, usable + 1):
        with pytest.raises(UserError, match=f"threads={count} .*{usable}"):
            processors(count)


@pytest.mark.parametrize("idle,says", [(195, "0.1 of 2 "), (100, "1.0 of 2 .*NOT")])
def test_load_by_other_programs(monkeypatch, idle, says):
    lines = iter(
        ["cpu 10 0 0 90 10 0 0 0 0 0\n", f"cpu {210 - idle} 0 0 {90 + idle} 10 0 0 0 0 0\n"]
    )
    monkeypatch.setattr(pathlib.Path, "read_text", lambda path: next(lines))
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    assert re.search(says, busy_processors())
