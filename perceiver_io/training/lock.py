"""Locks a run folder, so that only one training at a time writes to it."""

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
from perceiver_io.storage import Folder, is_address

LOCK = "training.lock"


@contextlib.contextmanager
def locked(workdir: Folder) -> Iterator[None]:
    """A context in which no other training writes to the folder.

    With several processes, the first holds the lock for all. The operating system releases it when
    that process ends, for whatever reason, so there are no stale locks. Raises UserError naming the
    host and process of another training that holds it.
    """
    if jax.process_index() != 0:
        yield
        return
    if is_address(workdir):
        say(f"{workdir} cannot be locked (a bucket): do not start another training there")
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
            f"Another training is writing to {workdir}: {holder}. Wait for it to end, stop it, or "
            "choose another --workdir."
        ) from error
    except OSError as error:  # Some file systems do not support locks.
        say(f"{workdir} cannot be locked ({error.strerror}): do not start another training there")
        return
    file.truncate(0)
    started = time.strftime("%Y-%m-%d %H:%M:%S")
    file.write(f"process {os.getpid()} on {platform.node()}, since {started}\n")
    file.flush()
