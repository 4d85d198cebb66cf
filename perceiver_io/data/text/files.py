"""Text files, plain or compressed (`.gz`, `.xz`, `.bz2`)."""

import bz2
import gzip
import lzma
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO

from perceiver_io.errors import UserError

OPENERS: dict[str, Callable[..., IO[bytes]]] = {
    ".gz": gzip.open,
    ".xz": lzma.open,
    ".bz2": bz2.open,
}
"""What opens compressed files, by the last extension."""

# A small file can expand to more than memory holds.
_MOST_BYTES = 2**33


def kind_of(path: Path) -> str:
    """The extension in lower case, without that of a compression."""
    name = path.name.lower()
    for suffix in OPENERS:
        name = name.removesuffix(suffix)
    return Path(name).suffix


def read_text(path: Path) -> str:
    """The text of a file, without a byte order mark; line ends stay as they are.

    Raises UserError if it cannot be read, is not UTF-8, or is empty.
    """
    data = read_bytes(path)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"{path} is not UTF-8: byte {error.start} (from 0, in line {line}) is "
            f"0x{data[error.start]:02X}. Save the file as UTF-8, or convert it: iconv -f ENCODING "
            "-t UTF-8."
        ) from error
    if not text.strip():
        raise UserError(f"{path} is empty: give a file with text.")
    return text


def lines_of(text: str) -> list[str]:
    """The lines of a text, which LF or CRLF end; U+2028 and the like do not."""
    # `splitlines` would also split at U+2028, U+0085 and others, which may occur within a line.
    return [line.removesuffix("\r") for line in text.split("\n")]


def read_bytes(path: Path) -> bytes:
    """The content of a file. Raises UserError if it cannot be read, or is too large."""
    path = path.expanduser()
    opener = OPENERS.get(path.suffix.lower(), open)
    try:
        with opener(path, "rb") as file:
            data = file.read(_MOST_BYTES + 1)
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"Cannot read the text file {path} ({reason}): replace it.") from error
    if len(data) > _MOST_BYTES:
        raise UserError(
            f"{path} has more than {_MOST_BYTES / 1e9:.0f} GB of text: split it into several files."
        )
    return data
