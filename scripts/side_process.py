"""The sides of a comparison, each in its own process that runs on request.

A side calls `serve`; the comparison starts it as a `Side`. Messages are JSON, one per line. This
module needs only the standard library, so that a side can run in another environment, and Linux,
for measuring memory.
"""

import contextlib
import ctypes
import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from perceiver_io.errors import UserError

MATRIX_SIZE = 2048
"""Side of the square matrices whose product measures the machine's peak rate."""

GRADIENT = "gradient"
"""Folder in which one side stores its gradient for the other."""


def processors(count: int) -> list[int]:
    """`count` of the available processors. Raises UserError if there are fewer."""
    usable = sorted(os.sched_getaffinity(0))
    if not 1 <= count <= len(usable):
        raise UserError(
            f"threads={count} must be from 1 to {len(usable)}, the available processors."
        )
    return usable[:count]


def busy_processors() -> str:
    """A sentence on the load by other programs, from one second in which this process idles."""

    def used() -> tuple[int, int]:
        times = [int(x) for x in Path("/proc/stat").read_text().split("\n")[0].split()[1:9]]
        return sum(times), sum(times) - times[3] - times[4]  # without idle and iowait

    before = used()
    time.sleep(1)
    total, busy = (after - start for after, start in zip(used(), before, strict=True))
    count = busy / total * os.cpu_count()
    warning = "" if count < 0.2 else ": THE MACHINE WAS NOT IDLE"
    return f"before, other programs kept {count:.1f} of {os.cpu_count()} processors busy{warning}"


def free_memory() -> int:
    """Bytes that a new program can use without swapping."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    raise OSError("/proc/meminfo has no MemAvailable")


def serve(commands: dict[str, Callable[[], Any]], **facts: Any) -> None:
    """Answers requests until there are no more.

    Args:
        commands: functions that can be requested, by name.
        facts: sent once at the start, with the process's memory at rest, which holds everything
            loaded so far.
    """
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # else freed memory would hide later allocations
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    _tell(facts | {"idle": _memory("VmRSS")})
    for command in sys.stdin:
        start, processor_start = time.perf_counter(), time.process_time()
        commands[command.strip()]()
        seconds = time.perf_counter() - start
        processor_seconds = time.process_time() - processor_start
        _tell(
            {"seconds": seconds, "processor_seconds": processor_seconds, "peak": _memory("VmHWM")}
        )


class Side(contextlib.AbstractContextManager):
    """A process that serves requests on the given processors; `facts` are its first message.

    Raises subprocess.CalledProcessError if it ends before answering.
    """

    def __init__(self, command: Sequence[str], cores: Sequence[int]) -> None:
        def confine() -> None:
            os.sched_setaffinity(0, cores)

        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=confine,
        )
        self.facts = self._answer()

    def __exit__(self, *_: object) -> None:
        """Ends the process."""
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()

    def ask(self, command: str) -> dict[str, Any]:
        """Runs a command.

        Returns the `seconds` it took, the `processor_seconds` that all its threads used, and the
        `peak` memory in bytes so far.
        """
        self._process.stdin.write(f"{command}\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        line = self._process.stdout.readline()
        if not line:
            raise subprocess.CalledProcessError(self._process.wait(), self._process.args)
        return json.loads(line)


def _tell(message: dict[str, Any]) -> None:
    print(json.dumps(message), flush=True)


def _memory(name: str) -> int:
    """Memory of this process in bytes, by its name in Linux's status file."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {name}")
