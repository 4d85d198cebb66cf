"""One training at a time in a run folder."""

import contextlib
import fcntl
import os
import platform
import time
from collections.abc import Iterator
from pathlib import Path

import jax

from perceiver_io.errors import UserError
from perceiver_io.progress import say

LOCK = "training.lock"


@contextlib.contextmanager
def locked(workdir: Path) -> Iterator[None]:
    """Within it no other run trains in the folder; of several processes the first locks it for all.

    The system itself takes the lock from a process that ends, however it ends, so that none is ever
    left behind. Raises UserError naming the host and the process that has it.
    """
    if jax.process_index() != 0:
        yield
        return
    with (workdir / LOCK).open("a+") as file:
        _lock(file, workdir)
        yield


def _lock(file, workdir: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.seek(0)
        holder = file.read().strip() or "another process"
        raise UserError(
            f"Another training writes to {workdir}: {holder}. Wait until it ends, or end it; or "
            "choose another --workdir."
        ) from error
    except OSError as error:  # There are file systems without locks.
        say(f"{workdir} cannot be locked ({error.strerror}): let no other training write to it")
        return
    file.truncate(0)
    started = time.strftime("%Y-%m-%d %H:%M:%S")
    file.write(f"process {os.getpid()} on {platform.node()}, since {started}\n")
    file.flush()
