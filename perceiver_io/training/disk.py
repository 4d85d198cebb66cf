"""Checks that the run folder is writable and has enough space; explains errors of a full disk."""

import contextlib
import errno
import os
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import jax

from perceiver_io.errors import UserError
from perceiver_io.storage import Folder, files_below, is_address, reason

_FULL = (errno.ENOSPC, errno.EDQUOT)
# Raised by file systems that have nothing to flush.
_NOTHING_TO_FLUSH = (errno.EINVAL, errno.ENOTSUP)
# From the error messages of tensorstore, which writes the checkpoints.
_FULL_MESSAGES = ("No space left", "ENOSPC", "Disk quota", "RESOURCE_EXHAUSTED")


def make_workdir(workdir: Folder) -> None:
    """Creates the folder. Raises UserError if it is not writable, or its name is not UTF-8."""
    if not isinstance(workdir, Path):
        _check_bucket(workdir)
        return
    try:
        str(workdir).encode()
    except UnicodeEncodeError as error:
        raise UserError(
            f"The name of the folder {workdir} is not UTF-8, which checkpoints need. Choose "
            "another --workdir."
        ) from error
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


def _check_bucket(workdir: Folder) -> None:
    """Raises UserError unless files can be written to and read from the bucket."""
    probe = workdir / f".writable_{uuid.uuid4().hex}"
    try:
        probe.write_text("writable")
        probe.read_text()
        probe.unlink()
    except Exception as error:  # Libraries of several makers are in between.
        raise UserError(
            f"{workdir} cannot be written to and read: {reason(error)}. Check the name of the "
            "bucket, and that this machine's service account may read, write and list its objects; "
            "on your own computer, run `gcloud auth application-default login`."
        ) from error


def check_space(workdir: Path, needed_bytes: int, available_bytes: int) -> None:
    """Raises UserError unless the checkpoints that a run keeps fit on the disk.

    Args:
        workdir: the run folder.
        needed_bytes: size of all checkpoints that exist at the same time.
        available_bytes: free space, including what the run's checkpoints already occupy.
    """
    if needed_bytes > available_bytes:
        raise UserError(
            f"The disk of {workdir} has {available_bytes / 1e9:.3g} GB for the checkpoints of this "
            f"run (free, or already used by them), but they need {needed_bytes / 1e9:.3g} GB. Free "
            "some space, reduce config.checkpoint.keep, or choose another --workdir."
        )


def size_of(folder: Path) -> int:
    """The total size of all files in a folder, in bytes."""
    return sum((folder / name).stat().st_size for name in files_below(folder))


@contextlib.contextmanager
def disk_errors_explained(folder: Folder) -> Iterator[None]:
    """A context in which errors that libraries raise about a folder's disk become a UserError."""
    try:
        yield
    except (UserError, jax.errors.JaxRuntimeError):  # out of device memory, with a similar message
        raise
    except Exception as error:
        full = getattr(error, "errno", None) in _FULL
        # Of a run in a bucket, records are on the disk for a while; a bucket is never full.
        where = tempfile.gettempdir() if is_address(folder) else folder
        if full or (where == folder and any(x in str(error) for x in _FULL_MESSAGES)):
            raise UserError(
                f"The disk of {where} is full. Files that were already complete, such as "
                "checkpoints, are intact: free some space and run the same command again."
            ) from error
        path = str(getattr(error, "filename", ""))
        if isinstance(error, OSError) and Path(path).is_relative_to(folder):
            raise UserError(
                f"{path} cannot be used: {error.strerror}. Move it away or fix its permissions, "
                "and run the same command again."
            ) from error
        raise


def flush(path: Path) -> None:
    """Flushes a file or folder to disk, so that it survives a power failure."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NOTHING_TO_FLUSH:
            raise
    finally:
        os.close(descriptor)


def write_whole(path: Folder, text: str) -> None:
    """Writes a text file atomically: after a failure, it has either its old or its new content."""
    if not isinstance(path, Path):  # Objects in a bucket are replaced at once.
        path.write_text(text)
        return
    temporary = path.with_name(f"{path.name}.tmp")
    temporary.write_text(text)
    flush(temporary)
    temporary.replace(path)
    flush(path.parent)
