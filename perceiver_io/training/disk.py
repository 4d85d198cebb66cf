"""Checks that the run folder is writable and has enough space; explains errors of a full disk."""

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path

import jax

from perceiver_io.errors import UserError

_FULL = (errno.ENOSPC, errno.EDQUOT)
# From the error messages of tensorstore, which writes the checkpoints.
_FULL_MESSAGES = ("No space left", "ENOSPC", "Disk quota", "RESOURCE_EXHAUSTED")


def make_workdir(workdir: Path) -> None:
    """Creates the folder. Raises UserError if it is not writable."""
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        probe = workdir / f".writable_{jax.process_index()}"
        probe.write_text("")
        probe.unlink()
    except OSError as error:
        raise UserError(
            f"The folder {workdir} cannot be written to: {error.strerror}. Choose another "
            "--workdir, or fix its permissions."
        ) from error


def check_space(workdir: Path, needed_bytes: int, free_bytes: int) -> None:
    """Raises UserError unless the checkpoints that a run keeps fit on the disk."""
    if needed_bytes > free_bytes:
        raise UserError(
            f"The disk of {workdir} has {free_bytes / 1e9:.3g} GB free, but the checkpoints of "
            f"this run need {needed_bytes / 1e9:.3g} GB. Free some space, reduce "
            "config.checkpoint.keep, or choose another --workdir."
        )


@contextlib.contextmanager
def full_disk_explained(workdir: Path) -> Iterator[None]:
    """A context in which the errors that libraries raise on a full disk become a UserError."""
    try:
        yield
    except jax.errors.JaxRuntimeError:  # out of device memory, with a similar message
        raise
    except Exception as error:
        full = getattr(error, "errno", None) in _FULL
        if not full and not any(message in str(error) for message in _FULL_MESSAGES):
            raise
        raise UserError(
            f"The disk of {workdir} is full. Files that were already complete, such as "
            "checkpoints, are intact: free some space and run the same command again."
        ) from error
