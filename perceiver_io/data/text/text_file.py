"""People's own labelled texts in tables: a class or a score for each text, or for each pair.

    config.data = dict(
        name="text_file", train="reviews.csv", text="review", label="stars", max_length=512
    )

See `perceiver_io.data.text.tables` for the formats.
"""

import abc
import dataclasses
import functools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar

from perceiver_io.config.annotations import EACH_ONCE, Rate, Text
from perceiver_io.config.construct import listing, nearest
from perceiver_io.data.pipeline.dataset import Composed
from perceiver_io.data.pipeline.sources import ReadOnUse, Source
from perceiver_io.data.pipeline.splits import in_share
from perceiver_io.data.text.examples import LabelledText
from perceiver_io.data.text.preparation import ClassifiedTextPreparation, ScoredTextPreparation
from perceiver_io.data.text.tables import read_columns
from perceiver_io.data.text.tokenizers import utf8
from perceiver_io.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class SplitFiles(Source):
    """A file for each split.

    Attributes:
        train: the file to train on.
        validation: the file to choose the checkpoint by; None: a part of `train`.
        test: the file to measure the result on, if any.
        held_out: without a file for it, the share of `train` that becomes the validation split. It
            is the same at each start; equal texts are in the same split.
    """

    train: Text
    validation: Text | None = None
    test: Text | None = None
    held_out: Rate = 0.1

    @property
    def splits(self) -> tuple[str, ...]:
        """train, validation unless nothing is held out for it, and test if there is one."""
        has_validation = self.validation is not None or self.held_out > 0
        exists = {"train": True, "validation": has_validation, "test": self.test is not None}
        return tuple(split for split, there in exists.items() if there)

    @abc.abstractmethod
    def read(self, path: str) -> list[Any]:
        """The examples of a file; the first field of each is its texts or words."""

    def __call__(self, split: str) -> Sequence[Any]:
        """The split's examples. Raises UserError naming the file and the line that is wrong."""
        return ReadOnUse(functools.partial(_examples, self, split))


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextColumns(SplitFiles):
    """Tables of texts, or of pairs.

    Attributes:
        text: the column of the texts.
        second_text: the column of the second text of each pair; None: there are no pairs.
        label: the column of the labels.
    """

    text: Text = "text"
    second_text: Text | None = None
    label: Text = "label"

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of texts."""
        return (self.text,) if self.second_text is None else (self.text, self.second_text)

    def for_prediction(self) -> dict[str, Any]:
        """The columns of texts, which files for prediction have as well."""
        return {"columns": self.columns}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClassifiedTexts(TextColumns):
    """Texts with classes.

    Attributes:
        classes: the names of the classes, as in the files; (): those in the training file, sorted.
    """

    classes: Annotated[tuple[str, ...], EACH_ONCE] = ()

    @property
    def class_names(self) -> tuple[str, ...]:
        """`classes`, or those found in the training file."""
        return self.classes or _classes(self.train, self.label)

    def read(self, path: str) -> list[LabelledText]:
        """Texts with the numbers of their classes. Raises UserError on a label that is no class."""
        classes, examples = self.class_names, []
        for line, (*texts, label) in read_columns(Path(path), (*self.columns, self.label)):
            where = f"{path}, line {line}"
            number = class_number(_class_of(label, where), classes, where)
            examples.append(LabelledText(_checked_texts(texts, where), number, where))
        return examples


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScoredTexts(TextColumns):
    """Texts with numbers, such as the similarity of two sentences."""

    class_names: ClassVar[None] = None

    def read(self, path: str) -> list[LabelledText]:
        """Texts with their numbers. Raises UserError on a label that is not a number."""
        examples = []
        for line, (*texts, label) in read_columns(Path(path), (*self.columns, self.label)):
            where = f"{path}, line {line}"
            score = _score_of(label, where)
            examples.append(LabelledText(_checked_texts(texts, where), score, where))
        return examples


classified_text_file = Composed(ClassifiedTexts, ClassifiedTextPreparation)
scored_text_file = Composed(ScoredTexts, ScoredTextPreparation)


def class_number(name: str, classes: Sequence[str], where: str) -> int:
    """The number of a class. Raises UserError for a name that is not among the classes."""
    if name not in classes:
        raise UserError(
            f"{where}: the label {name!r} is not a class{nearest(name, classes)}; the classes are "
            f"{listing(classes[:20])}{', ...' if len(classes) > 20 else ''}. Fix the label, or add "
            "it to the training file or to config.data.classes."
        )
    return classes.index(name)


def sorted_classes(names: set[str]) -> tuple[str, ...]:
    """Names in order: by their value if all are whole numbers."""
    if all(name.isdecimal() for name in names):
        return tuple(sorted(names, key=int))
    return tuple(sorted(names))


@functools.cache
def _examples(source: SplitFiles, split: str) -> list[Any]:
    if split == "test" or source.validation is not None:
        return source.read(getattr(source, split))
    return _parts(source)[split]


@functools.cache
def _parts(source: SplitFiles) -> dict[str, list[Any]]:
    """The training file without the validation split, and that split."""
    parts = {"train": [], "validation": []}
    for example in source.read(source.train):
        key = "\n".join(example[0]).encode(errors="surrogatepass")
        parts["validation" if in_share(key, source.held_out) else "train"].append(example)
    return parts


@functools.cache
def _classes(path: str, label: str) -> tuple[str, ...]:
    rows = read_columns(Path(path), (label,))
    return sorted_classes({_class_of(row.values[0], f"{path}, line {row.line}") for row in rows})


def _checked_texts(texts: Sequence[Any], where: str) -> tuple[str, ...]:
    """Raises UserError for what a JSON file can have: other values, and unpaired surrogates."""
    for text in texts:
        if not isinstance(text, str):
            raise UserError(f"{where}: the text is {text!r}, which is not a string. Fix it.")
        try:
            utf8(text)
        except UserError as error:
            raise UserError(f"{where}: {error}") from error
    return tuple(texts)


def _class_of(value: Any, where: str) -> str:
    """A label as the name of a class; a JSON file can have numbers and booleans."""
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, str | int) or not str(value).strip():
        raise UserError(
            f"{where}: the label is {value!r}, which is not the name of a class: a text, or a "
            "whole number. Fix it, or remove the row."
        )
    return str(value).strip()


def _score_of(value: Any, where: str) -> float:
    try:
        score = float(value)
    except (TypeError, ValueError):
        score = math.nan
    if not math.isfinite(score) or isinstance(value, bool):
        raise UserError(
            f"{where}: the label {value!r} is not a number. Fix it; for names of classes, use the "
            "task text_classification."
        )
    return score
