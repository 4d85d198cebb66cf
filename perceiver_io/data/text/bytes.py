"""Text as UTF-8 bytes: the tokenizer of Perceiver IO's language models (2107.14795, section 4.1).

There are 262 ids: six special tokens, then the 256 bytes. A byte-level model needs no vocabulary
file and reads any language.
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
# More than any model reads; a larger number is a typing error, and could exhaust the memory.
_MOST_MASKED = 1_000_000


def encode(text: str) -> Int32[np.ndarray, " M"]:
    """The ids of a text, one per byte of its UTF-8 encoding.

    Raises UserError for an unpaired surrogate, which UTF-8 cannot encode.
    """
    try:
        data = text.encode()
    except UnicodeEncodeError as error:
        raise UserError(
            f"Character {error.start} of the text, {text[error.start]!r}, is an unpaired "
            "surrogate, which UTF-8 cannot encode; read the text with the right encoding, or "
            "remove it."
        ) from error
    return np.frombuffer(data, np.uint8).astype(np.int32) + NUM_RESERVED


def encode_masked(text: str) -> Int32[np.ndarray, " M"]:
    """The ids of a text in which `[MASK]` stands for one masked byte and `[MASK:5]` for five.

    Raises UserError for a marker with an invalid number, and where `encode` does.
    """
    pieces = []
    end = 0
    for marker in _MARKER.finditer(text):
        pieces += [encode(text[end : marker.start()]), np.full(_num_bytes(marker), MASK, np.int32)]
        end = marker.end()
    return np.concatenate([*pieces, encode(text[end:])])


def decode(ids: Int32[np.ndarray, " M"]) -> str:
    """The text of ids. Special tokens are left out; bytes that are not valid UTF-8 become U+FFFD.

    Raises UserError for numbers outside the vocabulary.
    """
    ids = np.asarray(ids, np.int64)
    wrong = ids[(ids < 0) | (ids >= VOCABULARY_SIZE)]
    if len(wrong):
        raise UserError(
            f"{wrong[0]} is not a token id: ids go from 0 to {VOCABULARY_SIZE - 1}. Decode only "
            "the output of `encode` or of a byte-level model."
        )
    data = (ids[ids >= NUM_RESERVED] - NUM_RESERVED).astype(np.uint8)
    return data.tobytes().decode(errors="replace")


def pad(
    sequences: Sequence[Int32[np.ndarray, " _"]], length: int
) -> tuple[Int32[np.ndarray, "B M"], Bool[np.ndarray, "B M"]]:
    """Ids of several texts, padded with PAD to `length`, and a mask that is False at the padding.

    Raises UserError for a text longer than `length`.
    """
    ids = np.full((len(sequences), length), PAD, np.int32)
    mask = np.zeros(ids.shape, bool)
    for index, sequence in enumerate(sequences):
        if len(sequence) > length:
            raise UserError(
                f"Text {index} has {len(sequence)} bytes, but at most {length} fit: shorten it, or "
                "split it into several texts. Characters outside ASCII take two to four bytes each."
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
            f"{marker[0][:40]} does not give a number of bytes from 1 to {_MOST_MASKED}: write "
            "[MASK] for one masked byte, and [MASK:5] for five."
        )
    return int(count)
