"""Manifests, which record the content of a dataset when it was checked.

A manifest is a text file with one JSON object per line, which has the split of an example, its name
and the SHA-256 of its content, or null if it cannot be read. It does not depend on the location of
the data, so equal data have equal manifests, and the SHA-256 of a manifest identifies the data.
"""

import dataclasses
import functools
import hashlib
import json
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from perceiver_io.errors import UserError

_PART = 2**20  # bytes read at a time


class Entry(NamedTuple):
    """An example in a manifest.

    Attributes:
        split: of the example.
        name: see `names_of` in `perceiver_io.data.pipeline.sources`.
        sha256: of its content; None if it cannot be read.
    """

    split: str
    name: str
    sha256: str | None


@dataclasses.dataclass(frozen=True)
class Manifest:
    """A manifest read from a file.

    Attributes:
        path: the file.
        sha256: of the file.
        splits: for each split, the SHA-256 of its examples by name, in order.
    """

    path: str
    sha256: str
    splits: Mapping[str, Mapping[str, str | None]]

    def broken(self, split: str, names: Sequence[str]) -> dict[int, str]:
        """The examples that could not be read: the reason, by index.

        Args:
            split: one of the splits of the data.
            names: the current names of the split's examples.

        Raises UserError if the manifest lacks the split, or has other names.
        """
        if split not in self.splits:
            flag = f"--split={','.join([*self.splits, split])}"
            raise UserError(
                f"config.data.manifest={self.path} has no split {split!r}: write it again with "
                f"`python -m experiments.check_data {flag}`."
            )
        checked = self.splits[split]
        if list(checked) != list(names):
            new, gone = [x for x in names if x not in checked], checked.keys() - set(names)
            raise UserError(
                f"The split {split!r} is not the one that config.data.manifest={self.path} "
                f"describes: {len(new)} examples are new and {len(gone)} are gone, such as "
                f"{[*new, *sorted(gone)][:1]}. Run `python -m experiments.check_data` again."
            )
        return {
            index: "unreadable, by the manifest"
            for index, name in enumerate(names)
            if checked[name] is None
        }


def write_manifest(path: pathlib.Path, entries: Iterable[Entry]) -> str:
    """Writes a manifest; returns its SHA-256. Raises UserError if it cannot be written."""
    data = "".join(f"{json.dumps(entry._asdict())}\n" for entry in entries).encode()
    try:
        path.write_bytes(data)
    except OSError as error:
        raise UserError(f"Cannot write the manifest {path}: {error.strerror}.") from error
    return hashlib.sha256(data).hexdigest()


@functools.lru_cache
def read_manifest(path: str) -> Manifest:
    """Reads a manifest. Raises UserError if it is missing or damaged."""
    splits: dict[str, dict[str, str | None]] = {}
    try:
        data = pathlib.Path(path).expanduser().read_bytes()
        for line in data.splitlines():
            entry = Entry(**json.loads(line))
            splits.setdefault(entry.split, {})[entry.name] = entry.sha256
    except (OSError, ValueError, TypeError) as error:
        raise UserError(
            f"config.data.manifest={path} cannot be read as a manifest ({error}); write it with "
            "`python -m experiments.check_data`, or set it to None."
        ) from error
    return Manifest(path, hashlib.sha256(data).hexdigest(), splits)


def digest(raw: Any) -> str:
    """The SHA-256 of the content of a raw example, except its `name`, which may be a path.

    A `Path` stands for the content of its file. Raises UserError if that cannot be read.
    """
    content = hashlib.sha256()
    _add(content, raw)
    return content.hexdigest()


def _add(content: Any, value: Any) -> None:
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        value = {name: part for name, part in value._asdict().items() if name != "name"}
    if isinstance(value, Mapping):
        for name, part in value.items():
            content.update(f"{name}:".encode())
            _add(content, part)
    elif isinstance(value, bytes):
        content.update(b"%d bytes " % len(value) + value)
    elif isinstance(value, pathlib.Path):
        _add_file(content, value)
    else:
        array = np.ascontiguousarray(value)
        content.update(f"{array.dtype}{array.shape}".encode() + array.tobytes())


def _add_file(content: Any, path: pathlib.Path) -> None:
    """Adds what a file contains, as `_add` adds bytes."""
    try:
        with path.open("rb") as file:
            content.update(b"%d bytes " % path.stat().st_size)
            while part := file.read(_PART):
                content.update(part)
    except OSError as error:
        raise UserError(f"Cannot read {path}: {error.strerror}.") from error
