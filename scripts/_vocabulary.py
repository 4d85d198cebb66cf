"""Training a SentencePiece vocabulary from a folder; see `train_sentencepiece.py`."""

from pathlib import Path

from perceiver_io.data.text import sentence_pieces
from perceiver_io.data.text.documents import Document, documents, find_files
from perceiver_io.errors import UserError


def trained(folder: Path, field: str, vocabulary_size: int) -> bytes:
    """A model of all text files below a folder; `field` is that of the text in .jsonl."""
    texts = (
        _text(document)
        for path in find_files(folder).files
        for document in documents(path, field, None)
    )
    return sentence_pieces.train(texts, vocabulary_size)


def _text(document: Document) -> str:
    """A document as text. Raises UserError if it is not UTF-8."""
    try:
        return document.text.decode()
    except UnicodeDecodeError as error:
        raise UserError(
            f"{document.origin} is not UTF-8 ({error}): convert it, or leave it out."
        ) from error
