"""Text as UTF-8 bytes: the tokenizer of Perceiver IO's language models (2107.14795, section 4.1).

There are 262 ids: six reserved ones, then the 256 bytes. A model that reads bytes needs no
vocabulary file, and takes any language.
"""

import re
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int32

from perceiver_io.errors import UserError

PAD, BOS, EOS, MASK, CLS, SEP = range(6)
NUM_RESERVED = 6
VOCABULARY_SIZE = NUM_RESERVED + 256

_MARKER = re.compile(r"\[MASK(?::([^\]]*))?\]")
# More than any model reads; a number too large for memory is a mistake in typing.
_MOST_MASKED = 1_000_000


def encode(text: str) -> Int32[np.ndarray, " M"]:
    """The ids of a text, one for each byte of its UTF-8 form.

    Raises UserError for half a surrogate pair, which UTF-8 cannot express.
    """
    try:
        data = text.encode()
    except UnicodeEncodeError as error:
        raise UserError(
            f"Character {error.start} of the text, {text[error.start]!r}, is half of a surrogate "
            "pair and has no UTF-8 form; read the text with its right encoding, or remove it."
        ) from error
    return np.frombuffer(data, np.uint8).astype(np.int32) + NUM_RESERVED


def encode_masked(text: str) -> Int32[np.ndarray, " M"]:
    """The ids of a text in which `[MASK]` stands for one unknown byte and `[MASK:5]` for five.

    Raises UserError for a marker without a valid number, and as `encode`.
    """
    pieces = []
    end = 0
    for marker in _MARKER.finditer(text):
        pieces += [encode(text[end : marker.start()]), np.full(_num_bytes(marker), MASK, np.int32)]
        end = marker.end()
    return np.concatenate([*pieces, encode(text[end:])])


def decode(ids: Int32[np.ndarray, " M"]) -> str:
    """The text of ids. Reserved ids are left out; bytes that are no UTF-8 become U+FFFD.

    Raises UserError for numbers that are no ids.
    """
    ids = np.asarray(ids, np.int64)
    wrong = ids[(ids < 0) | (ids >= VOCABULARY_SIZE)]
    if len(wrong):
        raise UserError(
            f"{wrong[0]} is not the id of a byte: ids go from 0 to {VOCABULARY_SIZE - 1}. Decode "
            "what `encode` or a model of bytes gave."
        )
    data = (ids[ids >= NUM_RESERVED] - NUM_RESERVED).astype(np.uint8)
    return data.tobytes().decode(errors="replace")


def pad(
    sequences: Sequence[Int32[np.ndarray, " _"]], length: int
) -> tuple[Int32[np.ndarray, "B M"], Bool[np.ndarray, "B M"]]:
    """Ids of several texts filled up with PAD to `length`, and the mask that is True for the texts.

    Raises UserError for a text that is longer.
    """
    ids = np.full((len(sequences), length), PAD, np.int32)
    mask = np.zeros(ids.shape, bool)
    for index, sequence in enumerate(sequences):
        if len(sequence) > length:
            raise UserError(
                f"Text {index} has {len(sequence)} bytes, but at most {length} fit: shorten it, or "
                "split it into several. Letters outside of ASCII take two to four bytes each."
            )
        ids[index, : len(sequence)] = sequence
        mask[index, : len(sequence)] = True
    return ids, mask


def enclosed(
    ids: Int32[np.ndarray, "B M"], mask: Bool[np.ndarray, "B M"]
) -> tuple[Int32[np.ndarray, "B M+2"], Bool[np.ndarray, "B M+2"]]:
    """Texts as `pad` gives them between CLS and SEP, as transformers' PerceiverTokenizer puts them.

    Both count as part of the text.
    """
    rows, ends = np.arange(len(ids)), mask.sum(axis=1) + 1
    ids = np.pad(ids, [(0, 0), (1, 1)], constant_values=PAD)
    ids[:, 0], ids[rows, ends] = CLS, SEP
    return ids, np.arange(ids.shape[1]) <= ends[:, None]


def _num_bytes(marker: re.Match) -> int:
    count = marker[1]
    if count is None:
        return 1
    if not count.isdecimal() or not 1 <= int(count) <= _MOST_MASKED:
        raise UserError(
            f"{marker[0][:40]} says no number of bytes from 1 to {_MOST_MASKED}: write [MASK] for "
            "one unknown byte, and [MASK:5] for five."
        )
    return int(count)
