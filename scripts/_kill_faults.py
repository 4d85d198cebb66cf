"""Kills trainings at random moments, some of them during a save, with and without workers.

Each of two runs is killed again and again, and compared with one that nobody disturbs: after each
kill its latest checkpoint, and at the end its state and records have to be equal to the bit.
"""

import contextlib
import functools
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from perceiver_io.training.archive import find_steps
from scripts._checkpoint_faults import CONFIG, SMALL, arrays, check_equal
from scripts._fault_cases import Case, WrongError

STEPS = 1200
_EVERY = 20
_WORKERS = (0, 2)
_PATIENCE = 600  # seconds
_LONGEST_SAVE = 0.1  # seconds
# Kills at any moment are before this multiple of the time to the first checkpoint.
_START = 1.3
_SETTINGS = (
    *SMALL,
    f"training.steps={STEPS}",
    f"checkpoint.every={_EVERY}",
    "checkpoint.keep=1000",
    "checkpoint.best_metric=None",
    f"evaluation.every={STEPS}",
    f"logging.every={_EVERY}",
)


def kill_cases(folder: Path, count: int = 30) -> Iterator[Case]:
    """So many kills in all of two runs, and what becomes of these runs in the end."""
    undisturbed = folder / "undisturbed"
    moments = {"during a save": None, "at any moment": _START * _finish(undisturbed, workers=0)}
    for workers in _WORKERS:
        run = folder / f"workers_{workers}"
        for number, (kind, latest) in zip(
            range(count // len(_WORKERS)), itertools.cycle(moments.items()), strict=False
        ):
            attempt = functools.partial(_killed, run, undisturbed, workers, latest)
            yield Case(f"{kind}, {workers} workers", f"kill {number + 1}", attempt, _PATIENCE)
        attempt = functools.partial(_finished, run, undisturbed, workers)
        yield Case(f"to the end, {workers} workers", "state and records", attempt, _PATIENCE)


def _killed(run: Path, undisturbed: Path, workers: int, latest: float | None) -> str:
    """Kills a run and compares its latest checkpoint.

    `latest` is the last moment, in seconds from its start; None: during its next save but one.
    """
    before, unfinished = _latest(run), _unfinished(run)
    process = _start(run, workers)
    try:
        if latest is None:
            _wait_until(lambda: _latest(run) > before, process)
            _wait_until(lambda: _unfinished(run), process)
            latest = _LONGEST_SAVE
        time.sleep(random.uniform(0, latest))
        _check_sound(process)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    step = _latest(run)
    check_equal(arrays(run, step), arrays(undisturbed, step))
    return "equal, a save cut off" if _unfinished(run) - unfinished else "equal"


def _finished(run: Path, undisturbed: Path, workers: int) -> str:
    """Trains a run to its end, and compares it."""
    _finish(run, workers)
    check_equal(arrays(run, STEPS), arrays(undisturbed, STEPS))
    if _records(run) != _records(undisturbed):
        raise WrongError("the records differ")
    return "equal"


def _start(run: Path, workers: int) -> subprocess.Popen[str]:
    settings = [f"--config.{setting}" for setting in (*_SETTINGS, f"data.num_workers={workers}")]
    return subprocess.Popen(
        [sys.executable, "-m", "experiments.train", f"--config={CONFIG}", f"--workdir={run}"]
        + settings,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # whose group is killed, as when a job is
    )


def _finish(run: Path, workers: int) -> float:
    """Trains a run to its end; returns the seconds to its first checkpoint."""
    started, process = time.monotonic(), _start(run, workers)
    try:
        _wait_until(lambda: _latest(run), process)
        seconds = time.monotonic() - started
        _, errors = process.communicate()
    finally:
        process.kill()
    if process.returncode != 0:
        raise WrongError(errors[-1000:])
    return seconds


def _wait_until(condition: Callable[[], object], process: subprocess.Popen[str]) -> None:
    while not condition():
        _check_sound(process)
        if process.poll() == 0:
            raise WrongError("ended before it was killed")
        time.sleep(0.005)


def _check_sound(process: subprocess.Popen[str]) -> None:
    """Raises WrongError if a training has ended by an error."""
    if process.poll():
        raise WrongError(f"ended with status {process.returncode}: {process.stderr.read()[-1000:]}")


def _latest(run: Path) -> int:
    return max(find_steps(run / "checkpoints"), default=0)


def _unfinished(run: Path) -> set[str]:
    """The names of checkpoints that are not complete."""
    return {path.name for path in (run / "checkpoints").glob("*.orbax-checkpoint-tmp*")}


def _records(run: Path) -> list[tuple[int, str, dict[str, float]]]:
    """The recorded metrics, without those of the clock."""
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [
        (line["step"], line["split"], {k: v for k, v in line["metrics"].items() if "per_" not in k})
        for line in lines
    ]
