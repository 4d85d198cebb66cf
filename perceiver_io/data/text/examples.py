"""Raw examples of text tasks, and how their texts become token ids."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Int32

from perceiver_io.data.text import tokenizers
from perceiver_io.data.text.tokenizers import Tokenizer
from perceiver_io.errors import UserError

TooLong = Literal["crop", "refuse"]


class LabelledText(NamedTuple):
    """One text or two, the class or the score, and a name for error messages."""

    texts: tuple[str, ...]
    label: int | float
    name: str


class TaggedText(NamedTuple):
    """The words of a sentence, the class of each, and a name for error messages."""

    words: tuple[str, ...]
    tags: tuple[int, ...]
    name: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextInput:
    """How one text, or two as a pair, become the input of a model: [CLS] text [SEP] text [SEP].

    Attributes:
        tokenizer: of the model.
        max_length: length of the model's input, special tokens included.
        too_long: whether texts beyond that are cropped, the longer of two first, or an error.
    """

    tokenizer: Tokenizer
    max_length: int
    too_long: TooLong

    def __call__(
        self, texts: Sequence[str], name: str
    ) -> tuple[Int32[np.ndarray, " M"], Bool[np.ndarray, " M"]]:
        """Ids, padded, and a mask that is False at the padding.

        Raises UserError for texts that are too long, if these are not to be cropped.
        """
        parts = [self.tokenizer.encode(text) for text in texts]
        lengths = [len(part) for part in parts]
        if self._is_too_long(lengths):
            self._check_may_crop(sum(lengths), len(parts), name)
            kept = _shared(lengths, self.max_length - 1 - len(parts))
            parts = [part[:length] for part, length in zip(parts, kept, strict=True)]
        separator = [self.tokenizer.sep_id]
        ends = [piece for part in parts for piece in (part, separator)]
        ids, mask = tokenizers.pad(
            self.tokenizer, [np.concatenate([[self.tokenizer.cls_id], *ends])], self.max_length
        )
        return ids[0], mask[0]

    def texts_of(self, ids: Int32[np.ndarray, " M"]) -> list[str]:
        """The texts of a model's input, as far as they were not cropped."""
        ends = np.flatnonzero(ids == self.tokenizer.sep_id)
        parts = np.split(ids, ends)[: len(ends)]
        return [self.tokenizer.decode(part) for part in parts]

    def num_too_long(self, examples: Iterable[tuple[Sequence[str], str]]) -> int:
        """The number of examples (texts, name) that are too long.

        Raises UserError naming the first of them, if these are not to be cropped.
        """
        count = 0
        for texts, name in examples:
            # There are at most as many tokens as bytes, which are cheap to count.
            if not self._is_too_long([len(tokenizers.utf8(text)) for text in texts]):
                continue
            lengths = [len(self.tokenizer.encode(text)) for text in texts]
            if self._is_too_long(lengths):
                self._check_may_crop(sum(lengths), len(texts), name)
                count += 1
        return count

    def for_prediction(self) -> dict[str, Any]:
        """What trained weights need to prepare texts in the same way; `text_input` makes it."""
        return dict(
            tokenizer=self.tokenizer.for_prediction(),
            max_length=self.max_length,
            too_long=self.too_long,
        )

    def _is_too_long(self, lengths: Sequence[int]) -> bool:
        return sum(lengths) + len(lengths) + 1 > self.max_length

    def _check_may_crop(self, length: int, num_texts: int, name: str) -> None:
        if self.too_long == "refuse":
            raise UserError(
                f"{name} has {length} {self.tokenizer.unit} and {num_texts + 1} special tokens, "
                f"but the model takes {self.max_length}: shorten it, raise max_length of "
                "config.data and config.model, or crop such texts with "
                "--config.data.too_long=crop."
            )


def text_input(preparation: Mapping[str, Any]) -> TextInput:
    """The `TextInput` that `for_prediction` described; published weights read bytes."""
    return TextInput(
        tokenizer=tokenizers.stored(preparation.get("tokenizer", {"name": "bytes"})),
        max_length=preparation["max_length"],
        too_long=preparation.get("too_long", "crop"),
    )


def _shared(lengths: Sequence[int], total: int) -> list[int]:
    """Lengths cropped to `total` together: the longest is cropped until it is not the longest."""
    if len(lengths) == 1:
        return [total]
    shorter = min(*lengths, total // 2)
    first, second = lengths
    return [total - shorter, shorter] if first > second else [shorter, total - shorter]
