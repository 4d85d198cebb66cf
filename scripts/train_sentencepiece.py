"""Trains a SentencePiece vocabulary from text files.

    python -m scripts.train_sentencepiece --root=FOLDER --output=FILE [--vocabulary_size=32000]

FOLDER has files `.txt` and `.jsonl`, which may be compressed, in any sub-folders. The result is for
config.data.tokenizer=dict(name="sentencepiece", path=FILE, vocabulary_size=32000). All text is held
in memory: 100 MB are plenty.
"""

import sys
from pathlib import Path

if not __package__:  # Run as a file: imports start at the repository's root.
    sys.path[0] = str(Path(__file__).parents[1])

from absl import flags

from perceiver_io.data.text import sentence_pieces
from perceiver_io.data.text.documents import Document, documents, find_files
from perceiver_io.errors import UserError
from perceiver_io.runtime import program

ROOT = flags.DEFINE_string("root", None, "Folder of text files.")
OUTPUT = flags.DEFINE_string("output", None, "Model file to write.")
VOCABULARY_SIZE = flags.DEFINE_integer(
    "vocabulary_size", 32_000, "Number of ids, of which 7 are special tokens and 256 bytes."
)
FIELD = flags.DEFINE_string("field", "text", "The field of the text in .jsonl.")


def main() -> None:
    """Trains a model and writes it."""
    files = find_files(Path(ROOT.value).expanduser()).files
    model = sentence_pieces.train(
        (text(document) for path in files for document in documents(path, FIELD.value, None)),
        VOCABULARY_SIZE.value,
    )
    output = Path(OUTPUT.value).expanduser()
    output.write_bytes(model)
    print(f"{VOCABULARY_SIZE.value} ids from {len(files)} files: {output}")


def text(document: Document) -> str:
    """A document as text. Raises UserError if it is not UTF-8."""
    try:
        return document.text.decode()
    except UnicodeDecodeError as error:
        raise UserError(
            f"{document.origin} is not UTF-8 ({error}): convert it, or leave it out."
        ) from error


if __name__ == "__main__":
    program.run(main, ROOT, OUTPUT)
