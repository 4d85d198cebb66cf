"""The disk of the run folder: whether it can be written to, and what to say when it is full."""

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path

import jax

from perceiver_io.errors import UserError

_FULL = (errno.ENOSPC, errno.EDQUOT)
# How tensorstore, which writes the checkpoints, puts it.
_FULL_MESSAGES = ("No space left", "ENOSPC", "Disk quota", "RESOURCE_EXHAUSTED")


def make_workdir(workdir: Path) -> None:
    """Makes the folder. Raises UserError if it cannot be written to."""
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
            f"this run need {needed_bytes / 1e9:.3g} GB. Free some space, set "
            "config.checkpoint.keep to fewer, or choose another --workdir."
        )


@contextlib.contextmanager
def full_disk_explained(workdir: Path) -> Iterator[None]:
    """Within it, what libraries raise on a full disk becomes a UserError."""
    try:
        yield
    except jax.errors.JaxRuntimeError:  # of a device without memory, which is put likewise
        raise
    except Exception as error:
        full = getattr(error, "errno", None) in _FULL
        if not full and not any(message in str(error) for message in _FULL_MESSAGES):
            raise
        raise UserError(
            f"The disk of {workdir} is full. What was complete before, such as checkpoints, is "
            "intact: free some space and start the same command again."
        ) from error
