r"""Tables of texts in files: comma- and tab-separated values, and a JSON object per line.

The first line of a `.csv` or `.tsv` file names the columns. In `.csv`, a field may be quoted, and
then have commas and line ends. In `.tsv`, tabs separate fields and everything else is text, quotes
included, as in GLUE's files. In `.jsonl`, the keys are the columns. Each may be compressed.
"""

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from perceiver_io.config.construct import listing, nearest
from perceiver_io.data.text.files import kind_of, lines_of, read_text
from perceiver_io.errors import UserError


class Row(NamedTuple):
    """The number of a line, from 1, and values of its row."""

    line: int
    values: tuple[Any, ...]


def read_rows(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """The rows of a table by column, each with the number of its line.

    Raises UserError if the file cannot be read, is of another format, or is damaged.
    """
    formats = {".csv": _csv, ".tsv": _tsv, ".jsonl": _json_lines}
    if kind_of(path) not in formats:
        raise UserError(
            f"{path} is not a table: give a file {listing(formats)}, which may be "
            "compressed (.gz, .xz, .bz2)."
        )
    return formats[kind_of(path)](path, read_text(path))


def read_columns(path: Path, columns: Sequence[str]) -> list[Row]:
    """Some columns of a table.

    Raises UserError as `read_rows`, for columns that do not exist, and if there is no row.
    """
    rows = []
    for line, values in read_rows(path):
        rows.append(Row(line, chosen(values, columns, f"{path}, line {line}")))
    if not rows:
        raise UserError(f"{path} has no rows, only the names of columns: give a file with data.")
    return rows


def chosen(
    row: Mapping[str, Any], columns: Sequence[str], where: str, advice: str = ""
) -> tuple[Any, ...]:
    """The values of a row in some columns.

    Raises UserError that begins with `where` and ends with `advice` if a column does not exist.
    """
    for column in columns:
        if column not in row:
            raise UserError(
                f"{where}: there is no column {column!r}{nearest(column, row)}. "
                f"Its columns are {listing(row)}.{advice}"
            )
    return tuple(row[column] for column in columns)


def _csv(path: Path, text: str) -> Iterator[tuple[int, Mapping[str, str]]]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    header, before = None, 0
    try:
        for fields in reader:
            line, before = before + 1, reader.line_num
            if not fields:
                continue
            if header is None:
                header = _checked_header(path, fields)
            else:
                yield line, _by_column(path, line, header, fields)
    except csv.Error as error:
        raise UserError(
            f"{path}, line {reader.line_num}: this is not comma-separated values ({error}). Check "
            "the quotes there; in a .tsv file, quotes are text."
        ) from error


def _tsv(path: Path, text: str) -> Iterator[tuple[int, Mapping[str, str]]]:
    header = None
    for line, content in enumerate(lines_of(text), 1):
        if not content:
            continue
        fields = content.split("\t")
        if header is None:
            header = _checked_header(path, fields)
        else:
            yield line, _by_column(path, line, header, fields)


def _json_lines(path: Path, text: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for line, content in enumerate(lines_of(text), 1):
        if not content.strip():
            continue
        try:
            values = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path}, line {line}: this is not JSON ({error}). Fix it.") from error
        if not isinstance(values, dict):
            raise UserError(
                f"{path}, line {line}: this is not a JSON object, such as "
                '{"text": "Hello", "label": "greeting"}.'
            )
        yield line, values


def _checked_header(path: Path, names: Sequence[str]) -> Sequence[str]:
    """Raises UserError for names that occur twice."""
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise UserError(f"{path} has two columns {twice[0]!r} in its first line: rename one.")
    return names


def _by_column(
    path: Path, line: int, header: Sequence[str], fields: Sequence[str]
) -> Mapping[str, str]:
    if len(fields) != len(header):
        raise UserError(
            f"{path}, line {line}: there are {len(fields)} fields, but the first line names "
            f"{len(header)} columns ({listing(header)}). Fix that line."
        )
    return dict(zip(header, fields, strict=True))
