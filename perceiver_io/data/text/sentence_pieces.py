"""Text as SentencePiece tokens (1808.06226), with a vocabulary trained from any text.

Models are trained with `train` only: all white space is kept, and characters outside the vocabulary
are spelled in bytes, so that every text can be restored from its ids, except that U+2581, which
SentencePiece uses inside for the space, becomes one.
"""

import base64
import binascii
import dataclasses
import functools
import io
import pathlib
import types
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Int32

from perceiver_io.config.annotations import Text, Width
from perceiver_io.data.text.tokenizers import Tokenizer, utf8
from perceiver_io.errors import UserError

# Special tokens, whose ids are their places here.
_SPECIAL = ("[PAD]", "[BOS]", "[EOS]", "[UNK]", "[MASK]", "[CLS]", "[SEP]")
_SPACE = "\u2581"
# Characters at a time; SentencePiece leaves out longer sentences without a word.
_LONGEST_SENTENCE = 4096
_HOW_TO_TRAIN = "train one with `python -m scripts.train_sentencepiece`"


class SentencePieces(Tokenizer):
    """The tokens of a trained model; a space belongs to the token that follows it.

    Attributes:
        model: the content of the model file.
    """

    model: bytes

    unit: ClassVar[str] = "tokens"
    reads_any_bytes: ClassVar[bool] = False
    pad_id: ClassVar[int] = _SPECIAL.index("[PAD]")
    mask_id: ClassVar[int] = _SPECIAL.index("[MASK]")
    cls_id: ClassVar[int] = _SPECIAL.index("[CLS]")
    sep_id: ClassVar[int] = _SPECIAL.index("[SEP]")
    num_reserved: ClassVar[int] = len(_SPECIAL)

    @functools.cached_property
    def pieces(self) -> Sequence[bytes]:
        """The bytes of each piece, with spaces as such."""
        processor = self._processor
        names = map(processor.id_to_piece, range(processor.get_piece_size()))
        return (b"",) * self.num_reserved + tuple(
            bytes([int(name[3:-1], 16)]) if processor.is_byte(id) else _bytes_of(name)
            for id, name in enumerate(names)
            if id >= self.num_reserved
        )

    def encode(self, text: str | bytes) -> Int32[np.ndarray, " M"]:
        """The ids of the most probable segmentation. Raises UserError for invalid UTF-8."""
        if isinstance(text, bytes):
            try:
                text = text.decode()
            except UnicodeDecodeError as error:
                raise UserError(
                    f"The text is not UTF-8 ({error}), which SentencePiece needs: convert it, or "
                    'use tokenizer=dict(name="bytes"), which reads anything.'
                ) from error
        else:
            utf8(text)
        return np.array(self._processor.encode(text), np.int32)

    def for_prediction(self) -> dict[str, Any]:
        """The name, and the model as text."""
        return {"name": "sentencepiece_model", "model": base64.b64encode(self.model).decode()}

    @functools.cached_property
    def _processor(self) -> Any:
        return _import_sentencepiece().SentencePieceProcessor(model_proto=self.model)


@dataclasses.dataclass(frozen=True)
class SentencePieceTokenizer(SentencePieces):
    """The tokens of a model in memory."""

    model: bytes = dataclasses.field(repr=False)


@dataclasses.dataclass(frozen=True)
class SentencePieceFile(SentencePieces):
    """The tokens of a model file, which is read when it is first needed.

    UserError is raised then if it is missing, is no model trained by `train`, or has another number
    of ids than is promised.

    Attributes:
        path: of the file.
        promised_size: the number of ids.
    """

    path: str
    promised_size: int

    @property
    def vocabulary_size(self) -> int:
        """As promised, so that the file need not be there to know shapes."""
        return self.promised_size

    @functools.cached_property
    def model(self) -> bytes:
        """The content of the file."""
        try:
            model = pathlib.Path(self.path).expanduser().read_bytes()
        except OSError as error:
            raise UserError(
                f"Cannot read the SentencePiece model {self.path} ({error.strerror}): give its "
                f"path, or {_HOW_TO_TRAIN}."
            ) from error
        found = _checked(model, self.path).vocabulary_size
        if found != self.promised_size:
            raise UserError(
                f"The SentencePiece model {self.path} has {found} ids, but vocabulary_size is "
                f"{self.promised_size}: set config.data.tokenizer.vocabulary_size and "
                f"config.model.vocab_size to {found}, or use another model."
            )
        return model


def from_file(path: Text, vocabulary_size: Width) -> SentencePieceFile:
    """The tokenizer of a model file."""
    return SentencePieceFile(path, vocabulary_size)


def from_text(model: str) -> SentencePieceTokenizer:
    """The tokenizer of a model as `for_prediction` gives it. Raises UserError if it is damaged."""
    try:
        content = base64.b64decode(model, validate=True)
    except binascii.Error as error:
        raise UserError(f"The stored SentencePiece model is damaged ({error}).") from error
    return _checked(content, "stored with the weights")


def train(documents: Iterable[str], vocabulary_size: int) -> bytes:
    """Trains a unigram model and returns the content of its file.

    Args:
        documents: the texts.
        vocabulary_size: number of ids, 7 special tokens and 256 bytes included.

    Raises UserError if there is too little text for this many ids.
    """
    content = io.BytesIO()
    pad, bos, eos, unk, *others = _SPECIAL
    try:
        _import_sentencepiece().SentencePieceTrainer.train(
            sentence_iterator=_sentences(documents),
            model_writer=content,
            vocab_size=vocabulary_size,
            **dict(pad_id=0, bos_id=1, eos_id=2, unk_id=3),
            **dict(pad_piece=pad, bos_piece=bos, eos_piece=eos, unk_piece=unk),
            control_symbols=others,
            byte_fallback=True,
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
            add_dummy_prefix=False,
            max_sentence_length=4 * _LONGEST_SENTENCE,
            minloglevel=1,
        )
    except RuntimeError as error:
        raise UserError(
            f"SentencePiece could not train {vocabulary_size} ids ({error}): give more text, or a "
            "smaller vocabulary size."
        ) from error
    return content.getvalue()


def _sentences(documents: Iterable[str]) -> Iterator[str]:
    """Lines, in parts if they are long. No piece contains a line feed."""
    for document in documents:
        for line in document.split("\n"):
            for start in range(0, len(line), _LONGEST_SENTENCE):
                yield line[start : start + _LONGEST_SENTENCE]


def _checked(model: bytes, where: str) -> SentencePieceTokenizer:
    """The tokenizer, once it is known to be lossless and to have the special tokens."""
    tokenizer = SentencePieceTokenizer(model)
    try:
        found = [tokenizer._processor.id_to_piece(id) for id in range(len(_SPECIAL))]
        text = "  white  space\n\t\u0378 "
        usable = tuple(found) == _SPECIAL and tokenizer.decode(tokenizer.encode(text)) == text
    except (RuntimeError, IndexError) as error:
        raise UserError(
            f"The SentencePiece model {where} is damaged or no such model: {_HOW_TO_TRAIN}."
        ) from error
    if not usable:
        raise UserError(
            f"The SentencePiece model {where} lacks the special tokens {', '.join(_SPECIAL)} as "
            f"its first ids, or does not keep texts as they are: {_HOW_TO_TRAIN}."
        )
    return tokenizer


def _bytes_of(piece: str) -> bytes:
    return piece.replace(_SPACE, " ").encode()


def _import_sentencepiece() -> types.ModuleType:
    """Raises UserError if the package is missing."""
    try:
        import sentencepiece
    except ImportError as error:
        raise UserError(
            "SentencePiece needs its package: `pip install sentencepiece`. Bytes need none: "
            'config.data.tokenizer=dict(name="bytes").'
        ) from error
    return sentencepiece
