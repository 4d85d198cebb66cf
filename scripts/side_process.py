"""The sides of a comparison, each a process of its own that runs on request.

A side calls `serve`; the comparison starts it as a `Side`. Both ends speak JSON, a line a message.
Needs no other library, so that a side may live in another environment, and Linux, for the memory.
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
"""Side of the square matrices whose product shows what the machine reaches."""

GRADIENT = "gradient"
"""Folder that one side leaves its gradient in for another."""


def processors(count: int) -> list[int]:
    """`count` of those that may be used. Raises UserError if there are fewer."""
    usable = sorted(os.sched_getaffinity(0))
    if not 1 <= count <= len(usable):
        raise UserError(f"threads={count} must be from 1 to the {len(usable)} processors here.")
    return usable[:count]


def busy_processors() -> str:
    """A sentence on what the machine does beside, from one second in which this process rests."""

    def used() -> tuple[int, int]:
        times = [int(x) for x in Path("/proc/stat").read_text().split("\n")[0].split()[1:9]]
        return sum(times), sum(times) - times[3] - times[4]  # all but idle and waiting for disks

    before = used()
    time.sleep(1)
    total, busy = (after - start for after, start in zip(used(), before, strict=True))
    count = busy / total * os.cpu_count()
    warning = "" if count < 0.2 else ": THE FIGURES ARE NOT THOSE OF AN IDLE MACHINE"
    return f"before, other programs kept {count:.1f} of {os.cpu_count()} processors busy{warning}"


def free_memory() -> int:
    """Bytes that a new program may take without swapping."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    raise OSError("/proc/meminfo has no MemAvailable")


def serve(commands: dict[str, Callable[[], Any]], **facts: Any) -> None:
    """Answers requests until there are no more.

    Args:
        commands: what can be asked for.
        facts: told once, with the process's memory at rest: all that is loaded so far.
    """
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what was freed, but kept, would hide what is taken next
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    _tell(facts | {"idle": _memory("VmRSS")})
    for command in sys.stdin:
        start = time.perf_counter()
        commands[command.strip()]()
        seconds = time.perf_counter() - start
        _tell({"seconds": seconds, "peak": _memory("VmHWM")})


class Side(contextlib.AbstractContextManager):
    """A process that serves, started on the given processors; `facts` are what it told first.

    Raises subprocess.CalledProcessError if it ends before it has answered.
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
        """The `seconds` that a command took, and the `peak` of memory in bytes so far."""
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
    """Bytes of this process by their name in Linux's status file."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {name}")
