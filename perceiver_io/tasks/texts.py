"""What predictors of labelled texts share: texts from files, batches, answers as JSON lines."""

import abc
import functools
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int32, PyTree

from perceiver_io.config.construct import listing
from perceiver_io.data.text.files import kind_of, lines_of, read_text
from perceiver_io.data.text.tables import chosen, read_rows
from perceiver_io.errors import UserError
from perceiver_io.models.architectures import Architecture
from perceiver_io.progress import Progress
from perceiver_io.tasks.batches import (
    Advance,
    check_batch_size,
    check_finite,
    each_in_batches,
    ignore,
)
from perceiver_io.tasks.files import existing
from perceiver_io.tasks.predictor import Predictor, Report, Trained

ANSWERS = "predictions.jsonl"
_SHOWN = 10  # answers in the text of a report
_ADVICE = " Choose those of texts: --columns=NAME or --columns=NAME,NAME."


class Record(NamedTuple):
    """A text or a pair to predict for, the row of the file that it is from, and its place."""

    texts: tuple[Any, ...]
    row: Mapping[str, Any]
    name: str


class TextPredictor(Predictor):
    """Predicts for texts or pairs of the kind that the model was trained on.

    Attributes:
        columns: the columns of files with texts, one for each text of an example.
    """

    def __init__(self, trained: Trained):
        super().__init__(trained)
        self.columns = tuple(trained.preparation.get("columns", ("text",)))

    def write(
        self,
        output: Path,
        *,
        text: Sequence[str] = (),
        inputs: Sequence[str] = (),
        columns: Sequence[str] = (),
        batch_size: int = 32,
    ) -> Report:
        """Writes `predictions.jsonl`: the rows of the files, each with the answer of the model.

        Args:
            output: the folder for it.
            text: texts; for pairs the first, the second, the first of the next, ...
            inputs: tables `.csv`, `.tsv` or `.jsonl`, or `.txt` with one text per line.
            columns: the columns of texts in tables; by default those of the training file.
            batch_size: texts at a time.

        Raises UserError for files that cannot be read, and texts that are no pairs.
        """
        columns = tuple(columns) or self.columns
        if len(columns) != len(self.columns):
            raise UserError(
                f"--columns={','.join(columns)} has {len(columns)} columns, but the model takes "
                f"{len(self.columns)} texts at a time, as in {listing(self.columns)}."
            )
        read = (self.read(path, columns) for path in existing(inputs))
        records = [*_given(text, columns), *itertools.chain.from_iterable(read)]
        if not records:
            raise UserError("There is no text: give --text=TEXT or --inputs=FILE.")
        path = output / ANSWERS
        lines = []
        form = dict(encoding="utf-8", errors="backslashreplace")
        with Progress(len(records), "texts") as progress, path.open("w", **form) as file:
            for record, answer in self.answers(records, batch_size, progress.advance):
                file.write(json.dumps({**record.row, **answer}, ensure_ascii=False) + "\n")
                if len(lines) < _SHOWN:
                    lines.append(f"{self.shown(answer)}  {' | '.join(map(str, record.texts))}")
        if len(records) > _SHOWN:
            lines.append(f"... {len(records) - _SHOWN} more")
        summary = {"predictions": str(path), "texts": len(records)}
        return Report("\n".join([*lines, "", f"{len(records)} answers in {path}"]), summary)

    def read(self, path: Path, columns: Sequence[str]) -> Iterator[Record]:
        """The texts of a file, as `write` reads it."""
        if kind_of(path) == ".txt":
            yield from _read_lines(path, columns)
            return
        for line, row in read_rows(path):
            where = f"{path}, line {line}"
            yield Record(chosen(row, columns, where, _ADVICE), row, where)

    @abc.abstractmethod
    def answers(
        self, records: Sequence[Record], batch_size: int, advance: Advance = ignore
    ) -> Iterator[tuple[Record, dict[str, Any]]]:
        """Each record with the answer for it, which goes into the file."""

    @abc.abstractmethod
    def shown(self, answer: Mapping[str, Any]) -> str:
        """An answer in few words."""


def each_output(
    trained: Trained,
    rows: Iterable[Int32[np.ndarray, " M"]],
    apply: Callable[..., PyTree[Array]],
    batch_size: int,
    advance: Advance,
) -> Iterator[np.ndarray]:
    """A model's output for each row, computed in batches of one size.

    Args:
        trained: the model and its weights.
        rows: of integers, -1 where there is nothing.
        apply: (model, params, state, rows [B, M]) -> outputs; compiled.
        batch_size: rows at a time.
        advance: called after each batch with the number of its rows.

    Raises UserError for outputs that are not finite.
    """
    check_batch_size(batch_size)
    function = functools.partial(_jitted, apply, trained.model, trained.params, trained.state)
    for output in each_in_batches(function, rows, batch_size, advance):
        check_finite(output)
        yield output


def sentence_outputs(
    model: Architecture, params: PyTree, state: PyTree, ids: Int32[Array, "B M"], **query: Array
) -> Array:
    """The outputs for texts, -1 at the padding; `query` may choose places."""
    return model.apply(
        params,
        state,
        None,
        inputs=jnp.maximum(ids, 0),
        input_mask=ids >= 0,
        **query,
        is_training=False,
    )[0]


@functools.partial(jax.jit, static_argnums=(0, 1))
def _jitted(
    apply: Callable[..., PyTree[Array]],
    model: Architecture,
    params: PyTree,
    state: PyTree,
    rows: Array,
) -> PyTree[Array]:
    return apply(model, params, state, rows)


def _given(texts: Sequence[str], columns: Sequence[str]) -> Iterator[Record]:
    """The texts of flags."""
    count = len(columns)
    if len(texts) % count:
        raise UserError(
            f"--text is given {len(texts)} times, but the model takes {count} texts at a time "
            f"({listing(columns)}): give them in turn."
        )
    for start in range(0, len(texts), count):
        group = tuple(texts[start : start + count])
        row = dict(zip(columns, group, strict=True))
        yield Record(group, row, f"text {start // count + 1}")


def _read_lines(path: Path, columns: Sequence[str]) -> Iterator[Record]:
    if len(columns) > 1:
        raise UserError(
            f"{path} has one text per line, but the model takes {len(columns)} at a time: give a "
            f"table with the columns {listing(columns)}."
        )
    for number, line in enumerate(lines_of(read_text(path)), 1):
        if line.strip():
            yield Record((line,), {columns[0]: line}, f"{path}, line {number}")
