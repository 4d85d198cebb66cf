"""People's own tagged texts: a class for each word, in CoNLL files or tables.

    config.data = dict(name="tagged_file", train="train.conll", max_length=512, max_words=64)

`.conll` (also `.txt`, `.iob`, `.bio`): a word and its tags in each line, separated by white space;
a blank line after each text. `.jsonl`: lists of words and tags. `.csv` and `.tsv`: words and tags,
each separated by spaces. See `perceiver_io.data.text.tables`.
"""

import dataclasses
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from perceiver_io.config.annotations import EACH_ONCE, Text, within
from perceiver_io.data.pipeline.dataset import Composed
from perceiver_io.data.text.conll import CONLL, conll_texts, field_of
from perceiver_io.data.text.examples import TaggedText
from perceiver_io.data.text.files import kind_of
from perceiver_io.data.text.preparation import TaggedTextPreparation
from perceiver_io.data.text.tables import read_columns
from perceiver_io.data.text.text_file import SplitFiles, class_number, sorted_classes
from perceiver_io.errors import UserError

Column = Annotated[int, within(-100, 99)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaggedTexts(SplitFiles):
    """Texts with a tag for each word.

    Attributes:
        words: the column of words in tables.
        tags: the column of tags in tables.
        word_field: where the word is in the lines of CoNLL files, from 0; -1 is the last field.
        tag_field: where the tag is.
        classes: the tags; (): those in the training file, sorted, `O` first.
    """

    words: Text = "words"
    tags: Text = "tags"
    word_field: Column = 0
    tag_field: Column = -1
    classes: Annotated[tuple[str, ...], EACH_ONCE] = ()

    @property
    def class_names(self) -> tuple[str, ...]:
        """`classes`, or the tags found in the training file."""
        return self.classes or _tags(self)

    def for_prediction(self) -> dict[str, Any]:
        """Where words are in tables and in CoNLL files, those for prediction too."""
        return {"columns": (self.words,), "word_field": self.word_field}

    def read(self, path: str) -> list[TaggedText]:
        """Texts with the numbers of their tags. Raises UserError on a tag that is no class."""
        classes = self.class_names
        return [
            TaggedText(
                tuple(words),
                tuple(class_number(tag, classes, where) for tag, where in tags),
                tags[0][1],
            )
            for words, tags in self.sentences(path)
        ]

    def sentences(self, path: str) -> Iterator[tuple[list[str], list[tuple[str, str]]]]:
        """The words of each text, and the tag and the place in the file of each.

        Raises UserError as `read_columns`, and for texts without words or with another number of
        tags.
        """
        if kind_of(Path(path)) in (*CONLL, ".txt"):
            yield from self._conll(path)
            return
        for line, (words, tags) in read_columns(Path(path), (self.words, self.tags)):
            where = f"{path}, line {line}"
            words, tags = _listed(words, where), _listed(tags, where)
            if not words or len(words) != len(tags):
                raise UserError(
                    f"{where}: there are {len(words)} words and {len(tags)} tags; there must be "
                    "one tag for each word. Fix it, or remove the row."
                )
            yield words, [(tag, where) for tag in tags]

    def _conll(self, path: str) -> Iterator[tuple[list[str], list[tuple[str, str]]]]:
        empty = True
        for lines in conll_texts(Path(path)):
            empty = False
            for where, fields in lines:
                if len(fields) < 2:  # which would be its own tag
                    raise UserError(
                        f"{where}: {fields[0]!r} has no tag: a line has a word and its tag. Fix it."
                    )
            yield (
                [field_of(line, self.word_field, "word_field") for line in lines],
                [(field_of(line, self.tag_field, "tag_field"), line.where) for line in lines],
            )
        if empty:
            raise UserError(f"{path} has no words: give a file with a word and a tag in each line.")


tagged_file = Composed(TaggedTexts, TaggedTextPreparation)


@functools.cache
def _tags(source: TaggedTexts) -> tuple[str, ...]:
    names = {tag for _, tags in source.sentences(source.train) for tag, _ in tags}
    return tuple(sorted(sorted_classes(names), key=lambda name: name != "O"))


def _listed(value: Any, where: str) -> list[str]:
    """A list of texts, or a text whose words are separated by spaces."""
    if isinstance(value, str):
        return [part for part in value.split(" ") if part]
    if not isinstance(value, list) or not all(isinstance(part, str) for part in value):
        raise UserError(
            f"{where}: {str(value)[:60]} is neither a list of strings nor a string. Fix it."
        )
    return value
