"""Checkpoints are whole or not there: on the disk before they count, and verified before use.

What writes the arrays notices no changed bit in them: OCDBT, tensorstore's format, has checksums of
its index alone, and orbax offers no way to choose the codec that zarr has for the rest. Hence each
checkpoint has the checksums of all its files beside it. Those that were saved before there were
checksums are taken as they are.
"""

import asyncio
import hashlib
import json
from pathlib import Path

import orbax.checkpoint as ocp

from perceiver_io.training.disk import flush

CHECKSUMS = "checksums.json"
_ARRAYS = "state/"


class SealedPath(ocp.path.atomicity.AtomicRenameTemporaryPath):
    """Where orbax writes a checkpoint until it is complete; sealed before it gets its name."""

    async def finalize(self) -> None:
        """Commits what was written."""
        # Those of its parts, too, are written elsewhere first.
        is_checkpoint = self.get_final().name.isdecimal()
        if is_checkpoint:
            await asyncio.to_thread(seal, Path(self.get()))
        await super().finalize()
        if is_checkpoint:
            await asyncio.to_thread(_flush_all, Path(self.get_final()))
            await asyncio.to_thread(flush, Path(self.get_final()).parent)


def seal(directory: Path) -> None:
    """Writes the checksums of all files of a checkpoint, and hands all to the disk."""
    sums = {
        str(path.relative_to(directory)): _checksum(path)
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }
    # Orbax still writes into this one, and reads nothing in it that the project needs.
    sums.pop("_CHECKPOINT_METADATA", None)
    (directory / CHECKSUMS).write_text(json.dumps(sums, indent=0))
    _flush_all(directory)


def problem(directory: Path, *, arrays: bool) -> str | None:
    """What of a checkpoint is not as it was saved, as a clause; None if nothing is.

    Without `arrays` their files, which are large, are not read.
    """
    name = CHECKSUMS
    try:
        text = (directory / CHECKSUMS).read_text()
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        return f"{CHECKSUMS} cannot be read"
    try:
        for name, checksum in json.loads(text).items():
            if (arrays or not name.startswith(_ARRAYS)) and _checksum(directory / name) != checksum:
                return f"{name} is not as it was written"
    except FileNotFoundError:
        return f"{name} is missing"
    except (OSError, ValueError):
        return f"{name} cannot be read"
    return None


def set_aside(directory: Path) -> Path:
    """Gives a checkpoint a name by which nothing takes it for one; returns where it is now."""
    names = (f"{directory.name}.damaged{number}" for number in ("", *range(2, 1000)))
    aside = next(path for path in map(directory.with_name, names) if not path.exists())
    return directory.rename(aside)


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _flush_all(directory: Path) -> None:
    for path in (*directory.rglob("*"), directory):
        flush(path)
