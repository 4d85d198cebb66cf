"""Documents in text files: `.txt` and `.jsonl`, plain or compressed (`.gz`, `.xz`, `.bz2`)."""

import json
import os
import pathlib
from collections.abc import Iterator
from typing import Any, NamedTuple

from perceiver_io.data.text.files import OPENERS, kind_of, read_bytes
from perceiver_io.data.text.tokenizers import utf8
from perceiver_io.errors import UserError

_KINDS = (".txt", ".jsonl")
_BYTE_ORDER_MARK = "\ufeff".encode()


class Document(NamedTuple):
    """A text, usually in UTF-8, and where it is from, for messages."""

    text: bytes
    origin: str


class Found(NamedTuple):
    """The files below a folder, sorted: those of text, and the others by kind."""

    files: list[pathlib.Path]
    left_out: dict[str, list[str]]


def find_files(folder: pathlib.Path) -> Found:
    """All files below a folder. Raises UserError if it does not exist."""
    if not folder.is_dir():
        raise UserError(
            f"There is no folder {folder}: set config.data.root to a folder of text files "
            f"({', '.join(_KINDS)}; also {', '.join(OPENERS)})."
        )
    files: list[pathlib.Path] = []
    left_out: dict[str, list[str]] = {}
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = pathlib.Path(parent, name)
            if name.startswith("."):
                left_out.setdefault("hidden", []).append(str(path))
            elif kind_of(path) in _KINDS:
                files.append(path)
            else:
                left_out.setdefault("other files", []).append(str(path))
    return Found(files, left_out)


def documents(path: pathlib.Path, field: str, separator: str | None) -> Iterator[Document]:
    """The documents of a file that are not blank.

    In `.txt`, a byte order mark is dropped, CRLF becomes LF, and all else stays as it is, whatever
    its encoding. Lines of `.jsonl` end only at line feeds.

    Args:
        path: the file; all but `.jsonl` is plain text.
        field: the one of the text in JSON objects.
        separator: what stands between the documents of a plain text; None: it is one document.

    Raises UserError naming file and line.
    """
    data = read_bytes(path).removeprefix(_BYTE_ORDER_MARK)
    if kind_of(path) == ".jsonl":
        lines = enumerate(data.split(b"\n"), 1)
        found = [_from_json(line, field, f"{path}, line {n}") for n, line in lines if line.strip()]
    else:
        data = data.replace(b"\r\n", b"\n")
        parts = [data] if separator is None else data.split(utf8(separator))
        found = [Document(part, str(path)) for part in parts]
    return (document for document in found if document.text.strip())


def _from_json(line: bytes, field: str, origin: str) -> Document:
    try:
        value: Any = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{origin} is not JSON ({error}): each line must be an object.") from error
    if not isinstance(value, dict) or not isinstance(value.get(field), str):
        fields = ", ".join(value) if isinstance(value, dict) else f"it is a {type(value).__name__}"
        raise UserError(
            f"{origin} has no text in the field {field!r}; there are: {fields}. Set "
            "config.data.field to the one of the text."
        )
    try:
        return Document(utf8(value[field]), origin)
    except UserError as error:
        raise UserError(f"{origin}: {error}") from error
