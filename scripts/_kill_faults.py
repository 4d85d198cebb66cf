"""Kills trainings at random moments, some of them during a save, with and without workers.

Each of two runs is killed again and again, and compared with one that nobody disturbs: after each
kill its latest checkpoint, and at the end its state and records have to be equal to the bit.
"""

import contextlib
import functools
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

STEPS = 800
_EVERY = 20
_WORKERS = (0, 2)
_PATIENCE = 600
_LONGEST_SAVE = 0.1
"""Seconds from the appearance of a checkpoint's temporary folder."""
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
    _finish(undisturbed, workers=0)
    for workers in _WORKERS:
        run = folder / f"workers_{workers}"
        for number in range(count // len(_WORKERS)):
            during_save = number % 2 == 0
            kind = f"{'during a save' if during_save else 'at any moment'}, {workers} workers"
            attempt = functools.partial(_killed, run, undisturbed, workers, during_save)
            yield Case(kind, f"kill {number + 1}", attempt, _PATIENCE)
        attempt = functools.partial(_finished, run, undisturbed, workers)
        yield Case(f"to the end, {workers} workers", "state and records", attempt, _PATIENCE)


def _killed(run: Path, undisturbed: Path, workers: int, during_save: bool) -> str:
    """Kills a run at some moment after its next checkpoint, and compares its latest one."""
    before = _latest(run)
    process = _start(run, workers)
    try:
        _wait_until(lambda: _latest(run) > before, process)
        if during_save:
            _wait_until(lambda: _is_saving(run), process)
        time.sleep(random.uniform(0, _LONGEST_SAVE if during_save else 1))
        _check_running(process)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    was_saving = _is_saving(run)
    step = _latest(run)
    check_equal(arrays(run, step), arrays(undisturbed, step))
    return "equal, a save cut off" if was_saving else "equal"


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


def _finish(run: Path, workers: int) -> None:
    process = _start(run, workers)
    try:
        _, errors = process.communicate()
    finally:
        process.kill()
    if process.returncode != 0:
        raise WrongError(errors[-1000:])


def _wait_until(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    while not condition():
        _check_running(process)
        time.sleep(0.005)


def _check_running(process: subprocess.Popen[str]) -> None:
    """Raises WrongError if a training has ended, by an error or since it has too few steps."""
    if process.poll() is not None:
        raise WrongError(f"ended with status {process.returncode}: {process.stderr.read()[-1000:]}")


def _latest(run: Path) -> int:
    return max(find_steps(run / "checkpoints"), default=0)


def _is_saving(run: Path) -> bool:
    """Whether there is a checkpoint that is not complete."""
    return any(".orbax-checkpoint-tmp" in path.name for path in (run / "checkpoints").glob("*"))


def _records(run: Path) -> list[tuple[int, str, dict[str, float]]]:
    """The recorded metrics, without those of the clock."""
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [
        (line["step"], line["split"], {k: v for k, v in line["metrics"].items() if "per_" not in k})
        for line in lines
    ]
