"""The interface of tokenizers, and what is the same for all of them.

config.data.tokenizer = dict(name="bytes")
config.data.tokenizer = dict(name="sentencepiece", path=FILE, vocabulary_size=32000)
"""

import abc
import functools
import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Bool, Int32

from perceiver_io.config.construct import construct, lookup
from perceiver_io.errors import UserError

# The choices of `tokenizer.name`, as dotted names.
TOKENIZERS = {
    "bytes": "perceiver_io.data.text.bytes.ByteTokenizer",
    "sentencepiece": "perceiver_io.data.text.sentence_pieces.from_file",
    # As it is stored with trained weights, which do not depend on the file.
    "sentencepiece_model": "perceiver_io.data.text.sentence_pieces.from_text",
}

_MARKER = re.compile(r"\[MASK(?::([^\]]*))?\]")
# More than any model reads; a larger number is a typing error, and could exhaust the memory.
_MOST_MASKED = 1_000_000


class Tokenizer(abc.ABC):
    """Turns texts into token ids and back, without loss.

    Attributes:
        unit: what the tokens are, in the plural, for messages.
        reads_any_bytes: whether it encodes bytes that are not valid UTF-8.
        pad_id: fills texts up to a common length.
        mask_id: stands for a token that is to be predicted.
        cls_id: may stand before a text.
        sep_id: may stand after a text, and between two.
        num_reserved: ids below this one are special tokens, the others are text.
    """

    unit: ClassVar[str]
    reads_any_bytes: ClassVar[bool]
    pad_id: int
    mask_id: int
    cls_id: int
    sep_id: int
    num_reserved: int

    @property
    @abc.abstractmethod
    def pieces(self) -> Sequence[bytes]:
        """The bytes that each id stands for; none for special tokens."""

    @abc.abstractmethod
    def encode(self, text: str | bytes) -> Int32[np.ndarray, " M"]:
        """The ids of a text, or of its bytes in UTF-8; see `reads_any_bytes`.

        Markers such as [MASK] are text like any other, see `encode_masked`. Raises UserError for
        what cannot be encoded.
        """

    @abc.abstractmethod
    def for_prediction(self) -> dict[str, Any]:
        """The section `tokenizer` to store with trained weights; `stored` makes it again."""

    @property
    def vocabulary_size(self) -> int:
        """The number of ids, special tokens included."""
        return len(self.pieces)

    def decode(self, ids: Int32[np.ndarray, " M"]) -> str:
        """The text of ids; bytes that are not valid UTF-8 become U+FFFD; else as `decode_bytes`."""
        return self.decode_bytes(ids).decode(errors="replace")

    def decode_bytes(self, ids: Int32[np.ndarray, " M"]) -> bytes:
        """The bytes of ids; special tokens are left out.

        Raises UserError for numbers outside the vocabulary.
        """
        ids = np.asarray(ids, np.int64)
        wrong = ids[(ids < 0) | (ids >= self.vocabulary_size)]
        if len(wrong):
            raise UserError(
                f"{wrong[0]} is not a token id: ids go from 0 to {self.vocabulary_size - 1}. "
                "Decode only the output of `encode` or of a model with this tokenizer."
            )
        return b"".join([self.pieces[id] for id in ids])

    def num_bytes(self, ids: Int32[np.ndarray, "*shape"]) -> Int32[np.ndarray, "*shape"]:
        """The number of bytes that each id stands for."""
        return self._lengths[ids]

    def words(self, ids: Int32[np.ndarray, " M"]) -> Int32[np.ndarray, " M"]:
        """For each token, the number of the word that it belongs to, in the order of the text.

        Words are delimited by ASCII white space. -1: special tokens, and tokens of nothing but
        white space. A token of white space and text, such as SentencePiece's `_the`, belongs to the
        word that it begins.
        """
        blank = self._blank[ids]
        begins = ~blank & self._begins_word[ids]
        begins[1:] |= blank[:-1] & ~blank[1:]
        begins[:1] |= ~blank[:1]
        return np.where(blank, -1, np.cumsum(begins) - 1).astype(np.int32)

    def split(self, ids: Int32[np.ndarray, " M"], length: int) -> list[Int32[np.ndarray, " _"]]:
        """A text in parts of at most `length` tokens, cut before white space.

        Raises UserError for a word that is longer.
        """
        cuts = np.flatnonzero(self._begins_with_space[ids])
        parts, start = [], 0
        while len(ids) - start > length:
            number = np.searchsorted(cuts, start + length, side="right")
            cut = int(cuts[number - 1]) if number else 0
            if cut <= start:
                end = min([*cuts[cuts > start], len(ids)])
                raise UserError(
                    f"The text has {end - start} {self.unit} without white space, but at most "
                    f"{length} fit, and it is split at white space only: shorten it."
                )
            parts.append(ids[start:cut])
            start = cut
        return [*parts, ids[start:]]

    @property
    def includes_space(self) -> bool:
        """Whether the first token of a word includes the space before it."""
        return bool(self._begins_word.any())

    @functools.cached_property
    def _lengths(self) -> Int32[np.ndarray, " V"]:
        return np.array(list(map(len, self.pieces)), np.int32)

    @functools.cached_property
    def _blank(self) -> Bool[np.ndarray, " V"]:
        return np.array([not piece.strip() for piece in self.pieces])

    @functools.cached_property
    def _begins_word(self) -> Bool[np.ndarray, " V"]:
        return self._begins_with_space & ~self._blank

    @functools.cached_property
    def _begins_with_space(self) -> Bool[np.ndarray, " V"]:
        return np.array([piece[:1].isspace() for piece in self.pieces])


def stored(section: Mapping[str, Any]) -> Tokenizer:
    """The tokenizer that `Tokenizer.for_prediction` described. Raises UserError if it is wrong."""
    where = "the tokenizer in preparation.json"
    return construct(lookup(TOKENIZERS, section, where), section, where)


def encode_masked(tokenizer: Tokenizer, text: str) -> Int32[np.ndarray, " M"]:
    """The ids of a text in which `[MASK]` stands for one masked token and `[MASK:5]` for five.

    Where tokens include the space before a word, a masked token includes the one before its marker.

    Raises UserError for a marker with an invalid number, and where `encode` does.
    """
    pieces = []
    end = 0
    for marker in _MARKER.finditer(text):
        before = text[end : marker.start()]
        if tokenizer.includes_space:
            before = before.removesuffix(" ")
        masked = np.full(_num_tokens(marker, tokenizer), tokenizer.mask_id, np.int32)
        pieces += [tokenizer.encode(before), masked]
        end = marker.end()
    return np.concatenate([*pieces, tokenizer.encode(text[end:])])


def pad(
    tokenizer: Tokenizer, sequences: Sequence[Int32[np.ndarray, " _"]], length: int
) -> tuple[Int32[np.ndarray, "B M"], Bool[np.ndarray, "B M"]]:
    """Ids of several texts, padded to `length`, and a mask that is False at the padding.

    Raises UserError for a text longer than `length`.
    """
    ids = np.full((len(sequences), length), tokenizer.pad_id, np.int32)
    mask = np.zeros(ids.shape, bool)
    for index, sequence in enumerate(sequences):
        if len(sequence) > length:
            raise UserError(
                f"Text {index} has {len(sequence)} {tokenizer.unit}, but at most {length} fit: "
                "shorten it, or split it into several texts. As bytes, characters outside ASCII "
                "take two to four each."
            )
        ids[index, : len(sequence)] = sequence
        mask[index, : len(sequence)] = True
    return ids, mask


def enclosed(
    tokenizer: Tokenizer, ids: Int32[np.ndarray, "B M"], mask: Bool[np.ndarray, "B M"]
) -> tuple[Int32[np.ndarray, "B M+2"], Bool[np.ndarray, "B M+2"]]:
    """Texts as `pad` gives them between CLS and SEP, as transformers' PerceiverTokenizer puts them.

    Both count as part of the text.
    """
    rows, ends = np.arange(len(ids)), mask.sum(axis=1) + 1
    ids = np.pad(ids, [(0, 0), (1, 1)], constant_values=tokenizer.pad_id)
    ids[:, 0], ids[rows, ends] = tokenizer.cls_id, tokenizer.sep_id
    return ids, np.arange(ids.shape[1]) <= ends[:, None]


def utf8(text: str) -> bytes:
    """A text in UTF-8. Raises UserError for an unpaired surrogate, which UTF-8 cannot encode."""
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise UserError(
            f"Character {error.start} of the text, {text[error.start]!r}, is an unpaired "
            "surrogate, which UTF-8 cannot encode; read the text with the right encoding, or "
            "remove it."
        ) from error


def _num_tokens(marker: re.Match, tokenizer: Tokenizer) -> int:
    count = marker[1]
    if count is None:
        return 1
    if not count.isdecimal() or not 1 <= int(count) <= _MOST_MASKED:
        raise UserError(
            f"{marker[0][:40]} does not give a number of {tokenizer.unit} from 1 to "
            f"{_MOST_MASKED}: write [MASK] for one that is masked, and [MASK:5] for five."
        )
    return int(count)
