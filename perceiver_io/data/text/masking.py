"""Texts with masked words, for masked language modelling (Perceiver IO, section 4.1)."""

import codecs
import dataclasses
from typing import Annotated, Any

import numpy as np
from jaxtyping import Int32

from perceiver_io.config.annotations import (
    INPUT_SIZE,
    SUM_OF_ONE,
    Choice,
    Fraction,
    Probability,
    Width,
)
from perceiver_io.data.pipeline.dataset import Example, Preparation, Spec
from perceiver_io.data.text.passages import Passage
from perceiver_io.data.text.tokenizers import TOKENIZERS, Tokenizer
from perceiver_io.errors import UserError

# The bytes of a character in UTF-8 other than its first one.
_CONTINUATION = bytes(range(0x80, 0xC0))


@dataclasses.dataclass(frozen=True, kw_only=True)
class MaskedTextPreparation(Preparation):
    """Crops of passages in which some words are masked, and the masked places.

    Each word, delimited by white space, is chosen with a probability, with all its tokens. An
    example has `text` [M] (token ids after masking), `text_mask` [M] (False at the padding),
    `query` [O] (the masked places, in ascending order), `query_mask` [O] (False beyond them),
    `target` [O] (the ids that were there) and `target_bytes` [O] (how many bytes these stand for).
    In training, a crop begins at a random place; in evaluation, it is the passage's own bytes.
    Tokens beyond M are left out.

    Attributes:
        tokenizer: see `perceiver_io.data.text.tokenizers`.
        max_length: M, the length of the model's input in tokens.
        max_queries: O. Of the words chosen, in a random order, those that would exceed it stay as
            they are, so it should be well above the mean, mask_rate * M.
        mask_rate: the probability that a word is chosen in training.
        evaluation_mask_rate: the same in evaluation; None: as in training.
        token_mask_rate: the probability that a token of another word is chosen by itself, in
            training. What is masked within a word is easier to predict than whole words.
        replacement: how many of the chosen tokens, in the mean, become [MASK], become a random
            token, or stay as they are. BERT has (0.8, 0.1, 0.1).
    """

    tokenizer: Annotated[Tokenizer, Choice(TOKENIZERS)]
    max_length: Annotated[Width, INPUT_SIZE]
    max_queries: Width
    mask_rate: Fraction = 0.15
    evaluation_mask_rate: Fraction | None = None
    token_mask_rate: Probability = 0.0
    replacement: Annotated[tuple[Probability, Probability, Probability], SUM_OF_ONE] = (1.0, 0, 0)

    def training_example(self, raw: Passage, rng: np.random.Generator) -> Example:
        """A crop at a random place of the passage."""
        start = rng.integers(max(0, len(raw.text) - raw.own) + 1)
        # Several bytes make one token of SentencePiece: there are enough to fill the crop.
        ids = self._encoded(raw.text[start : start + 2 * raw.own], raw.name)
        return self._masked(ids[: self.max_length], self.mask_rate, rng, self.token_mask_rate)

    def evaluation_example(self, raw: Passage, rng: np.random.Generator) -> Example:
        """The passage's own bytes; what is masked is the same at each evaluation."""
        ids = self._encoded(raw.text[: raw.own], raw.name)
        rate = self.mask_rate if self.evaluation_mask_rate is None else self.evaluation_mask_rate
        return self._masked(ids[: self.max_length], rate, rng)

    def example_spec(self) -> Spec:
        """Token ids, places and lengths are int32, masks bool."""
        integer, boolean = np.dtype(np.int32), np.dtype(bool)
        text, query = (self.max_length,), (self.max_queries,)
        return {
            "text": (text, integer),
            "text_mask": (text, boolean),
            "query": (query, integer),
            "query_mask": (query, boolean),
            "target": (query, integer),
            "target_bytes": (query, integer),
        }

    def for_prediction(self) -> dict[str, Any]:
        """The tokenizer, and the length of the input, which has no special tokens at the ends."""
        return {
            "tokenizer": self.tokenizer.for_prediction(),
            "max_length": self.max_length,
            "special_tokens": False,
        }

    def _encoded(self, text: bytes, name: str) -> Int32[np.ndarray, " m"]:
        if not self.tokenizer.reads_any_bytes:
            text = whole_characters(text)
        try:
            return self.tokenizer.encode(text)
        except UserError as error:
            raise UserError(f"{name}: {error}") from error

    def _masked(
        self,
        ids: Int32[np.ndarray, " m"],
        rate: float,
        rng: np.random.Generator,
        token_rate: float = 0.0,
    ) -> Example:
        places = self._places(ids, rate, rng)
        if token_rate > 0:
            places = self._with_single_tokens(places, ids, token_rate, rng)
        masked = ids.copy()
        masked[places] = self._replaced(ids[places], rng)
        target = _filled(ids[places], self.max_queries)
        return {
            "text": _filled(masked, self.max_length, self.tokenizer.pad_id),
            "text_mask": np.arange(self.max_length) < len(ids),
            "query": _filled(places, self.max_queries),
            "query_mask": np.arange(self.max_queries) < len(places),
            "target": target,
            "target_bytes": self.tokenizer.num_bytes(target),
        }

    def _places(
        self, ids: Int32[np.ndarray, " m"], rate: float, rng: np.random.Generator
    ) -> Int32[np.ndarray, " o"]:
        """The places of the tokens of the chosen words."""
        words = self.tokenizer.words(ids)
        lengths = np.bincount(words[words >= 0])
        draws = rng.random(len(lengths))
        order = np.argsort(draws)
        chosen = order[: np.count_nonzero(draws < rate)]
        chosen = chosen[np.cumsum(lengths[chosen]) <= self.max_queries]
        is_chosen = np.zeros(len(lengths) + 1, bool)  # the last one for tokens of no word, -1
        is_chosen[chosen] = True
        return np.flatnonzero(is_chosen[words])

    def _with_single_tokens(
        self,
        places: Int32[np.ndarray, " o"],
        ids: Int32[np.ndarray, " m"],
        rate: float,
        rng: np.random.Generator,
    ) -> Int32[np.ndarray, " p"]:
        """Also the places of single tokens of words, as far as there is room for them."""
        is_chosen = (rng.random(len(ids)) < rate) & (self.tokenizer.words(ids) >= 0)
        others = np.setdiff1d(np.flatnonzero(is_chosen), places)
        room = self.max_queries - len(places)
        return np.sort(np.concatenate([places, rng.permutation(others)[:room]]))

    def _replaced(
        self, ids: Int32[np.ndarray, " o"], rng: np.random.Generator
    ) -> Int32[np.ndarray, " o"]:
        """What stands in place of the chosen tokens."""
        masked, random, _ = self.replacement
        draws = rng.random(len(ids))
        others = rng.integers(self.tokenizer.num_reserved, self.tokenizer.vocabulary_size, len(ids))
        kept = np.where(draws < masked + random, others, ids)
        return np.where(draws < masked, self.tokenizer.mask_id, kept)


def whole_characters(text: bytes) -> bytes:
    """A part of a text in UTF-8 without the characters that its ends cut."""
    longest = 3  # bytes that can be left of a character
    text = text[:longest].lstrip(_CONTINUATION) + text[longest:]
    _, num_whole = codecs.utf_8_decode(text, "ignore", False)
    return text[:num_whole]


def _filled(
    values: Int32[np.ndarray, " _"], length: int, filler: int = 0
) -> Int32[np.ndarray, " L"]:
    found = np.full(length, filler, np.int32)
    found[: len(values)] = values
    return found
