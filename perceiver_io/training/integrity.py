"""Integrity of checkpoints: flushed to disk before they are committed, and verified before use.

A flipped bit in an array would otherwise go unnoticed: OCDBT, tensorstore's format, has checksums
for its index only, and orbax offers no way to add zarr's checksum codec to the arrays. Hence each
checkpoint contains a file with the checksums of all its files. Older checkpoints without one are
used without verification.
"""

import asyncio
import hashlib
import json
from pathlib import Path

import orbax.checkpoint as ocp

from perceiver_io.storage import Folder, checksum, files_below
from perceiver_io.training.disk import flush

CHECKSUMS = "checksums.json"
COMMITTED = "commit_success.txt"
_ARRAYS = "state/"


class SealedPath(ocp.path.atomicity.AtomicRenameTemporaryPath):
    """The temporary folder of a checkpoint, which orbax renames when the checkpoint is complete."""

    async def finalize(self) -> None:
        """Commits the checkpoint, after it has been sealed."""
        # Its items, such as `state`, have temporary folders of their own.
        is_checkpoint = self.get_final().name.isdecimal()
        if is_checkpoint:
            await asyncio.to_thread(seal, Path(self.get()))
        await super().finalize()
        if is_checkpoint:
            await asyncio.to_thread(_flush_all, Path(self.get_final()))
            await asyncio.to_thread(flush, Path(self.get_final()).parent)


class SealedObjects(ocp.path.atomicity.CommitFileTemporaryPath):
    """A checkpoint in a bucket, which is complete when orbax has written the file COMMITTED."""

    async def finalize(self) -> None:
        """Commits the checkpoint, after it has been sealed."""
        if self.get_final().name.isdecimal():
            await asyncio.to_thread(seal, self.get())
        await super().finalize()


def seal(directory: Folder) -> None:
    """Writes the checksums of all files of a checkpoint, and flushes everything to disk."""
    sums = {name: _checksum(directory / name) for name in files_below(directory)}
    # Orbax still changes this file; nothing in it is needed to restore.
    sums.pop("_CHECKPOINT_METADATA", None)
    (directory / CHECKSUMS).write_text(json.dumps(sums, indent=0))
    if isinstance(directory, Path):
        _flush_all(directory)


def problem(directory: Folder, *, arrays: bool) -> str | None:
    """Describes the damage to a checkpoint in a clause; None if it is intact.

    Unless `arrays` is set, the large files of the arrays are not read. In a bucket, no file is: it
    has computed the checksums. Raises OSError if a bucket cannot be read.
    """
    in_bucket = not isinstance(directory, Path)
    name = CHECKSUMS
    try:
        text = (directory / CHECKSUMS).read_text()
    except FileNotFoundError:
        return f"{CHECKSUMS} is missing" if in_bucket else None
    except (OSError, ValueError):
        if in_bucket:
            raise
        return f"{CHECKSUMS} cannot be read"
    try:
        for name, checksum in json.loads(text).items():
            if (arrays or not name.startswith(_ARRAYS)) and _checksum(directory / name) != checksum:
                return f"{name} has changed since it was written"
    except FileNotFoundError:
        return f"{name} is missing"
    except OSError:
        if in_bucket:  # Which says nothing about the file.
            raise
        return f"{name} cannot be read"
    except ValueError:
        return f"{name} cannot be read"
    return None


def set_aside(directory: Folder) -> Folder:
    """Renames a damaged checkpoint, so that it is ignored; returns its new path."""
    names = (f"{directory.name}.damaged{number}" for number in ("", *range(2, 1000)))
    aside = next(path for path in map(directory.with_name, names) if not path.exists())
    return directory.rename(aside)


def _checksum(path: Folder) -> str:
    if not isinstance(path, Path):
        return checksum(path)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _flush_all(directory: Path) -> None:
    for path in (*directory.rglob("*"), directory):
        flush(path)
