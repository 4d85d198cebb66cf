"""Names for the shared memory of worker processes, so that what a killed job left can be removed.

Nothing runs after SIGKILL to a whole job, and its segments would occupy memory until the machine
is restarted. Hence the names of all segments of a training process start with its own prefix, and
it locks a file of that name: where the operating system has released the lock, the process has
ended. This also holds for processes in other containers that share the memory.
"""

import atexit
import contextlib
import fcntl
import functools
import os
import secrets
from multiprocessing import shared_memory
from pathlib import Path

SHARED_MEMORY = Path("/dev/shm")
_LOCK = ".perceiver_io"


@functools.cache
def own_prefix() -> str | None:
    """This process's prefix, kept until it ends; None on systems without `/dev/shm`."""
    if not SHARED_MEMORY.is_dir():
        return None
    remove_abandoned()
    prefix = f"p{secrets.token_hex(3)}_"
    lock = SHARED_MEMORY / f"{prefix}{_LOCK}"
    fcntl.flock(os.open(lock, os.O_CREAT | os.O_RDWR), fcntl.LOCK_EX)
    atexit.register(_remove_own, prefix)
    return prefix


def use_prefix(prefix: str | None) -> None:
    """Makes this process name its segments so. Python has no public setting for it."""
    if prefix is not None:
        shared_memory._SHM_NAME_PREFIX = f"/{prefix}"  # type: ignore[attr-defined]


def remove_abandoned() -> None:
    """Removes the segments of processes that have ended."""
    for path in SHARED_MEMORY.glob(f"p??????_{_LOCK}"):
        with contextlib.suppress(OSError), path.open() as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for segment in SHARED_MEMORY.glob(f"{path.name.removesuffix(_LOCK)}*"):
                segment.unlink(missing_ok=True)


def _remove_own(prefix: str) -> None:
    """Removes what workers left that were ended in the middle of a batch."""
    for path in SHARED_MEMORY.glob(f"{prefix}[0-9a-f]*"):
        # Also tells Python, which would report it as leaked.
        with contextlib.suppress(OSError):
            shared_memory.SharedMemory(path.name).unlink()
    (SHARED_MEMORY / f"{prefix}{_LOCK}").unlink(missing_ok=True)
