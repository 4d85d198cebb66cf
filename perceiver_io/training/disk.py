"""The disk of the run folder: whether it can be written to, and what to say when it is full."""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

import jax

from perceiver_io.errors import UserError

_FULL = (errno.ENOSPC, errno.EDQUOT)
# What file systems say that have nothing to flush.
_NOTHING_TO_FLUSH = (errno.EINVAL, errno.ENOTSUP)
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


def check_space(workdir: Path, needed_bytes: int, available_bytes: int) -> None:
    """Raises UserError unless the checkpoints that a run keeps fit on the disk.

    Args:
        workdir: the run folder.
        needed_bytes: of all checkpoints that are there at a time.
        available_bytes: what is free, with what the run's checkpoints hold already.
    """
    if needed_bytes > available_bytes:
        raise UserError(
            f"The disk of {workdir} has {available_bytes / 1e9:.3g} GB for the checkpoints of this "
            f"run (free, or held by them already), but they need {needed_bytes / 1e9:.3g} GB. Free "
            "some space, set config.checkpoint.keep to fewer, or choose another --workdir."
        )


def size_of(folder: Path) -> int:
    """The bytes of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@contextlib.contextmanager
def disk_errors_explained(folder: Path) -> Iterator[None]:
    """Within it, what libraries raise about the disk of a folder becomes a UserError."""
    try:
        yield
    except UserError:
        raise
    except (OSError, ValueError, RuntimeError) as error:
        full = getattr(error, "errno", None) in _FULL
        if full or any(message in str(error) for message in _FULL_MESSAGES):
            raise UserError(
                f"The disk of {folder} is full. The checkpoints that were complete before are "
                "intact: free some space and start the same command again."
            ) from error
        path = str(getattr(error, "filename", ""))
        if isinstance(error, OSError) and Path(path).is_relative_to(folder):
            raise UserError(
                f"{path} cannot be used: {error.strerror}. Remove what is in its place or fix its "
                "permissions, and start the same command again."
            ) from error
        raise


def flush(path: Path) -> None:
    """Returns when a file or a folder is on the disk, safe even if the power fails."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NOTHING_TO_FLUSH:
            raise
    finally:
        os.close(descriptor)


def write_whole(path: Path, text: str) -> None:
    """Writes a text file; whatever breaks meanwhile, it is there as before or as it is to be."""
    temporary = path.with_name(f"{path.name}.tmp")
    temporary.write_text(text)
    flush(temporary)
    temporary.replace(path)
    flush(path.parent)
