"""Predicts the tags of words."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int32, PyTree

from perceiver_io.data.text import tokenizers
from perceiver_io.data.text.conll import CONLL, conll_texts, field_of
from perceiver_io.data.text.files import kind_of
from perceiver_io.data.text.words import WordInput
from perceiver_io.errors import UserError
from perceiver_io.models.architectures import Architecture
from perceiver_io.tasks.batches import Advance, ignore
from perceiver_io.tasks.predictor import Trained
from perceiver_io.tasks.texts import Record, TextPredictor, each_output, sentence_outputs
from perceiver_io.tasks.vocabulary import check_vocabulary

Words = str | Sequence[str]


class TextTagger(TextPredictor):
    """Tags the words of texts of any length; longer ones are read in parts.

    Attributes:
        class_names: the tags.
        word_field: where the word is in the lines of CoNLL files.
        input: how words are prepared for the model.
    """

    def __init__(self, trained: Trained):
        super().__init__(trained)
        self.class_names = tuple(trained.class_names)
        self.word_field = trained.preparation.get("word_field", 0)
        self.input = WordInput(
            tokenizer=tokenizers.stored(trained.prepared("tokenizer")),
            max_length=trained.prepared("max_length"),
            max_words=trained.prepared("max_words"),
            too_long="crop",
        )
        check_vocabulary(trained.section, self.input.tokenizer)

    def predict(self, texts: Words | Iterable[Words], *, batch_size: int = 32) -> list[list[str]]:
        """The tags of the words of each text.

        Args:
            texts: one or several; each a string, in which white space separates words, or a list
                of words. A list of strings is several texts.
            batch_size: parts of texts at a time.

        Raises UserError for words that are empty or have white space.
        """
        texts = [texts] if isinstance(texts, str) else texts
        records = [Record((text,), {}, f"text {n}") for n, text in enumerate(texts, 1)]
        return [answer["tags"] for _, answer in self.answers(records, batch_size)]

    def read(self, path: Path, columns: Sequence[str]) -> Iterator[Record]:
        """As in `TextPredictor`; of CoNLL files, the words, whatever their tags."""
        if kind_of(path) not in CONLL:
            yield from super().read(path, columns)
            return
        for lines in conll_texts(path):
            words = [field_of(line, self.word_field, "word_field") for line in lines]
            yield Record((words,), {}, lines[0].where)

    def answers(
        self, records: Sequence[Record], batch_size: int, advance: Advance = ignore
    ) -> Iterator[tuple[Record, dict[str, Any]]]:
        """The `words` and their `tags`."""
        texts = [_words(record) for record in records]
        parts = [list(self._parts(words)) for words in texts]
        rows = (self._row(part, record) for record, own in zip(records, parts, strict=True)
                for part in own)  # fmt: skip
        found = each_output(self.trained, rows, self._apply, batch_size, ignore)
        for record, words, own in zip(records, texts, parts, strict=True):
            tags = [
                self.class_names[tag] for part in own for tag in next(found).argmax(-1)[: len(part)]
            ]
            advance(1)
            yield record, {"words": words, "tags": tags}

    def shown(self, answer: Mapping[str, Any]) -> str:
        """Each word with its tag."""
        pairs = zip(answer["words"], answer["tags"], strict=True)
        return " ".join(f"{word}/{tag}" for word, tag in pairs)

    def _parts(self, words: Sequence[str]) -> Iterator[Sequence[str]]:
        while words:
            count = self.input.num_fitting(words)
            yield words[:count]
            words = words[count:]

    def _row(self, words: Sequence[str], record: Record) -> Int32[np.ndarray, " M+W"]:
        """Token ids, -1 at the padding, and the places of words."""
        example = self.input(words, record.name)
        ids = np.where(example["text_mask"], example["text"], -1)
        return np.concatenate([ids, example["word"]])

    def _apply(
        self, model: Architecture, params: PyTree, state: PyTree, rows: Int32[Array, "B M+W"]
    ) -> Array:
        ids, places = jnp.split(rows, [self.input.max_length], axis=1)
        return sentence_outputs(model, params, state, ids, query=places)


def _words(record: Record) -> list[str]:
    (text,) = record.texts
    if isinstance(text, str):
        return text.split()
    if not isinstance(text, list | tuple) or not all(isinstance(word, str) for word in text):
        raise UserError(
            f"{record.name} is {str(text)[:60]}, but must be a string or a list of words."
        )
    return list(text)
