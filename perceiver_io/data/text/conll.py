"""Files of words as in CoNLL's shared tasks: a word in each line, a blank line after each text."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from perceiver_io.data.text.files import lines_of, read_text
from perceiver_io.errors import UserError

CONLL = (".conll", ".iob", ".bio")
# Begins a document in the files of CoNLL-2003; it is not a word.
_DOCUMENT = "-DOCSTART-"


class Line(NamedTuple):
    """The place of a line, for messages, and its fields: a word and its tags."""

    where: str
    fields: list[str]


def conll_texts(path: Path) -> Iterator[list[Line]]:
    """The lines of each text. Raises UserError for a file that cannot be read."""
    text: list[Line] = []
    for number, line in enumerate([*lines_of(read_text(path)), ""], 1):
        # Only ASCII white space: words may have others, such as U+2028.
        fields = [field for field in line.replace("\t", " ").split(" ") if field]
        if fields[:1] == [_DOCUMENT]:
            continue
        if fields:
            text.append(Line(f"{path}, line {number}", fields))
        elif text:
            yield text
            text = []


def field_of(line: Line, index: int, setting: str) -> str:
    """A field of a line. Raises UserError naming the setting of config.data if there is none."""
    where, fields = line
    if not -len(fields) <= index < len(fields):
        raise UserError(
            f"{where}: the line has {len(fields)} fields, but config.data.{setting} is {index}: "
            "fix the line, or set another place, from 0."
        )
    return fields[index]
