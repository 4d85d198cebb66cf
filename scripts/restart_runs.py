"""Kills a process of a run of each task, restarts the run on another number, compares the losses.

    python -m scripts.restart_runs --folder=DIR [--only=TASK,...] [--output=docs/restarts.png]

Each task's small config, shrunk, is trained by two processes with fake devices (some by four). One
of them is killed after the first checkpoint; the others have to end by themselves. The run is
then resumed by another number of processes, and compared with one of a single process that was not
interrupted. Prints, for each task, after how many seconds the others had ended, with which status,
and the greatest difference of a recorded metric, relative to the greatest magnitude of that metric.
Repeating the command continues with the tasks that are not done. A task takes about a minute of a
CPU core. Tags of words are left out: their data is the user's own.
"""

import json
import os
import runpy
import shutil
import signal
import socket
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

if not __package__:  # Run as a file: imports start at the repository's root.
    sys.path[0] = str(Path(__file__).parents[1])

from absl import flags

from perceiver_io.runtime import program
from perceiver_io.training.archive import find_steps
from scripts._restart_cases import CASES, EVERY, SETTINGS, Case

FOLDER = flags.DEFINE_string("folder", None, "Folder of all runs.", required=True)
ONLY = flags.DEFINE_list("only", list(CASES), "Tasks.")
OUTPUT = flags.DEFINE_string("output", "docs/restarts.png", "The figure.")

_PATIENCE = 900  # seconds
_COLUMNS, _PANEL = 4, (3.4, 2.6)  # inches


class Restart(NamedTuple):
    """What became of a task's run.

    Attributes:
        seconds: until the last of the other processes had ended.
        statuses: of these.
        resumed: the step of the checkpoint that the run was resumed from.
    """

    seconds: float
    statuses: list[int]
    resumed: int


def main() -> None:
    """Runs what is missing, prints the table and draws the figure."""
    # Once for all processes, which are forked; nothing here may start JAX's backend.
    import perceiver_io.runtime.evaluation
    import perceiver_io.runtime.training_run  # noqa: F401

    folder = program.folder(FOLDER)
    done = {}
    for task in ONLY.value:
        done[task] = _restarted(CASES[task], folder / task)
        print(_as_row(task, CASES[task], done[task], folder / task), flush=True)
    _draw(done, folder, Path(OUTPUT.value))


def _restarted(case: Case, folder: Path) -> Restart:
    """Trains without interruption, and again with one."""
    record = folder / "restart.json"
    if record.exists():
        return Restart(**json.loads(record.read_text()))
    (process,) = _start(case, folder / "whole", 1, folder)
    _wait(process, 0)
    run = folder / "restarted"
    # Of a repeated command that did not get further: its checkpoints would end the wait below.
    shutil.rmtree(run, ignore_errors=True)
    first, *others = _start(case, run, case.before, folder)
    _wait_for_checkpoint(run, first)
    victim = others.pop()
    killed = time.monotonic()
    os.kill(victim, signal.SIGKILL)
    statuses = [_wait(process) for process in (first, *others)]
    seconds = time.monotonic() - killed
    _wait(victim, -signal.SIGKILL)
    resumed = max(find_steps(run / "checkpoints"))
    for process in _start(case, run, case.after, folder):
        _wait(process, 0)
    found = Restart(round(seconds, 1), statuses, resumed)
    record.write_text(json.dumps(found._asdict()))
    return found


def _start(case: Case, run: Path, count: int, folder: Path) -> list[int]:
    """Starts the training program in so many processes; returns their identifiers."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = (*SETTINGS, *case.settings)
    arguments = [f"--config=configs/{case.config}", f"--workdir={run}"]
    arguments += [f"--config.{setting}" for setting in settings]
    address = f"127.0.0.1:{_free_port()}"
    if count > 1:
        arguments += [f"--coordinator_address={address}", f"--num_processes={count}"]
    return [
        _fork(
            [*arguments, *([f"--process_id={index}"] if count > 1 else [])], folder / f"{index}.log"
        )
        for index in range(count)
    ]


def _fork(arguments: Sequence[str], log: Path) -> int:
    """Runs the training program in a copy of this process, which has its libraries already."""
    process = os.fork()
    if process:
        return process
    try:
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(output, 1)
        os.dup2(output, 2)
        sys.argv = ["train", *arguments]
        runpy.run_module("experiments.train", run_name="__main__")
    except SystemExit as end:
        os._exit(end.code if isinstance(end.code, int) else 0)
    finally:
        os._exit(1)


def _wait(process: int, status: int | None = None) -> int:
    """The status with which a process ends; raises RuntimeError if it is to be another."""
    found = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    if status is not None and found != status:
        raise RuntimeError(f"A process ended with status {found}: see its log in the folder.")
    return found


def _wait_for_checkpoint(run: Path, process: int) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not (run / "checkpoints" / str(EVERY)).exists():
        ended, _ = os.waitpid(process, os.WNOHANG)
        if ended or time.monotonic() > deadline:
            raise RuntimeError(f"{run} did not save a checkpoint: see its logs in the folder.")
        time.sleep(0.005)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def _values(run: Path) -> dict[tuple[str, str], dict[int, float]]:
    """Values by step of each metric of each split, without those of the clock."""
    found: dict[tuple[str, str], dict[int, float]] = defaultdict(dict)
    for line in map(json.loads, (run / "metrics.jsonl").read_text().splitlines()):
        for name, value in line["metrics"].items():
            if value is not None and not name.endswith(("per_second", "per_device")):
                found[line["split"], name][line["step"]] = value
    return found


def _greatest_difference(folder: Path) -> tuple[float, str]:
    """Of all metrics, relative to the greatest magnitude of each, and the name of that metric."""
    whole, restarted = _values(folder / "whole"), _values(folder / "restarted")
    differences = []
    for (split, name), values in whole.items():
        other = restarted[split, name]
        if other.keys() != values.keys():
            raise RuntimeError(f"{folder}: {split} {name} is not recorded at the same steps")
        scale = max(map(abs, values.values())) or 1.0
        worst = max(abs(values[step] - other[step]) for step in values) / scale
        differences.append((worst, f"{split}/{name}"))
    return max(differences)


def _as_row(task: str, case: Case, restart: Restart, folder: Path) -> str:
    difference, name = _greatest_difference(folder)
    statuses = ", ".join(map(str, restart.statuses))
    return (
        f"{task:28} {case.before} -> {case.after} processes, resumed at {restart.resumed:3}, the "
        f"others ended after {restart.seconds:4.1f} s with {statuses}; difference {difference:.1e} "
        f"({name})"
    )


def _draw(done: dict[str, Restart], folder: Path, output: Path) -> None:
    """One panel a task: the loss without interruption, and that of the run that was restarted."""
    from matplotlib.figure import Figure

    rows = -(-len(done) // _COLUMNS)
    figure = Figure(figsize=(_COLUMNS * _PANEL[0], rows * _PANEL[1]), layout="constrained")
    panels = list(figure.subplots(rows, _COLUMNS, squeeze=False).flat)
    for panel, (task, restart) in zip(panels, done.items(), strict=False):
        case = CASES[task]
        whole = _values(folder / task / "whole")["train", "loss"]
        again = _values(folder / task / "restarted")["train", "loss"]
        panel.plot(whole.keys(), whole.values(), color="0.8", linewidth=5, label="not interrupted")
        for count, steps, colour in (
            (case.before, [x for x in again if x <= restart.resumed], "tab:blue"),
            (case.after, [x for x in again if x > restart.resumed], "tab:orange"),
        ):
            label = f"{count} processes" if count > 1 else "1 process"
            panel.plot(steps, [again[x] for x in steps], color=colour, label=label)
        panel.axvline(restart.resumed, color="0.4", linestyle=":")
        difference, _ = _greatest_difference(folder / task)
        panel.set_title(f"{task.replace('_', ' ')}\ndifference {difference:.0e}", fontsize=9)
        panel.set_xlabel("step", fontsize=8)
        panel.set_ylabel("loss", fontsize=8)
        panel.tick_params(labelsize=8)
        panel.legend(frameon=False, fontsize=7)
    for panel in panels[len(done) :]:
        panel.set_axis_off()
    output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(output, dpi=80)


if __name__ == "__main__":
    # Collectives between devices of one machine can wait for each other without enough threads.
    os.environ.setdefault("NPROC", "8")
    os.environ["JAX_PLATFORMS"] = "cpu"
    program.run(main, FOLDER)
