"""Text as UTF-8 bytes: the tokenizer of Perceiver IO's language models (2107.14795, section 4.1).

There are 262 ids: six special tokens, then the 256 bytes. A byte-level model needs no vocabulary
file and reads any language.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Int32

from perceiver_io.data.text.tokenizers import Tokenizer, utf8

PAD, BOS, EOS, MASK, CLS, SEP = range(6)
NUM_RESERVED = 6
VOCABULARY_SIZE = NUM_RESERVED + 256

_PIECES = (b"",) * NUM_RESERVED + tuple(bytes([value]) for value in range(256))


@dataclasses.dataclass(frozen=True)
class ByteTokenizer(Tokenizer):
    """One id per byte, also of bytes that are not valid UTF-8."""

    unit: ClassVar[str] = "bytes"
    reads_any_bytes: ClassVar[bool] = True
    pad_id: ClassVar[int] = PAD
    mask_id: ClassVar[int] = MASK
    cls_id: ClassVar[int] = CLS
    sep_id: ClassVar[int] = SEP
    num_reserved: ClassVar[int] = NUM_RESERVED
    pieces: ClassVar[Sequence[bytes]] = _PIECES

    def encode(self, text: str | bytes) -> Int32[np.ndarray, " M"]:
        """The ids, one per byte. Raises UserError for an unpaired surrogate."""
        data = utf8(text) if isinstance(text, str) else text
        return np.frombuffer(data, np.uint8).astype(np.int32) + NUM_RESERVED

    def for_prediction(self) -> dict[str, Any]:
        """Just the name."""
        return {"name": "bytes"}
