"""Words as input of a model that tags them."""

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np

from perceiver_io.data.pipeline.dataset import Example
from perceiver_io.data.text import tokenizers
from perceiver_io.data.text.examples import TooLong
from perceiver_io.data.text.tokenizers import Tokenizer
from perceiver_io.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class WordInput:
    """How words become the input of a model, [CLS] words joined by spaces [SEP], and its queries.

    Attributes:
        tokenizer: of the model.
        max_length: length of the model's input, special tokens included.
        max_words: number of queries.
        too_long: whether words beyond either are left out or an error.
    """

    tokenizer: Tokenizer
    max_length: int
    max_words: int
    too_long: TooLong

    def __call__(self, words: Sequence[str], name: str) -> Example:
        """`text`, `text_mask`, `word` and `word_mask`, as in `TaggedTextPreparation`.

        Raises UserError for too many words, if they are not to be left out, and for words that are
        empty or have white space.
        """
        count = self.num_fitting(words)
        self._check_fits(count, words, name)
        ids, starts = self._tokens(words[:count])
        ends = [self.tokenizer.cls_id], [self.tokenizer.sep_id]
        sequence = np.concatenate([ends[0], ids[: self.max_length - 2], ends[1]])
        text, text_mask = tokenizers.pad(self.tokenizer, [sequence], self.max_length)
        word = np.zeros(self.max_words, np.int32)
        word[:count] = 1 + starts
        return {
            "text": text[0],
            "text_mask": text_mask[0],
            "word": word,
            "word_mask": np.arange(self.max_words) < count,
        }

    def num_fitting(self, words: Sequence[str]) -> int:
        """How many of the first words fit; at least one, of which the end may be cropped."""
        words = words[: self.max_words]
        ids, starts = self._tokens(words)
        ends = np.append(starts[1:], len(ids))
        return max(1, int((ends <= self.max_length - 2).sum())) if words else 0

    def num_too_long(self, examples: Iterable[tuple[Sequence[str], str]]) -> tuple[int, int]:
        """How many examples (words, name) are too long, and how many words they lose.

        Raises UserError naming the first of them, if these are not to be cropped.
        """
        num_examples = num_words = 0
        for words, name in examples:
            fitting = self.num_fitting(words)
            self._check_fits(fitting, words, name)
            num_examples += fitting < len(words)
            num_words += len(words) - fitting
        return num_examples, num_words

    def _tokens(self, words: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """The ids of all words, and the place of the first one of each."""
        ids = self.tokenizer.encode(" ".join(words))
        numbers = self.tokenizer.words(ids)
        found, starts = np.unique(numbers[numbers >= 0], return_index=True)
        if len(found) != len(words):
            wrong = next(word for word in words if word.encode().split() != [word.encode()])
            raise UserError(
                f"{wrong!r} is not a word: words are not empty and have no white space. Fix the "
                "data."
            )
        return ids, np.flatnonzero(numbers >= 0)[starts]

    def _check_fits(self, count: int, words: Sequence[str], name: str) -> None:
        if count < len(words) and self.too_long == "refuse":
            raise UserError(
                f"{name} has {len(words)} words, of which {count} fit into max_words="
                f"{self.max_words} and max_length={self.max_length} {self.tokenizer.unit}: shorten "
                "it, raise these in config.data and config.model, or leave the other words out "
                "with --config.data.too_long=crop."
            )
