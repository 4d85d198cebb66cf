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

from perceiver_io.errors import UserError
from perceiver_io.runtime import program
from scripts._vocabulary import trained

ROOT = flags.DEFINE_string("root", None, "Folder of text files.")
OUTPUT = flags.DEFINE_string("output", None, "Model file to write.")
VOCABULARY_SIZE = flags.DEFINE_integer(
    "vocabulary_size", 32_000, "Number of ids, of which 7 are special tokens and 256 bytes."
)
FIELD = flags.DEFINE_string("field", "text", "The field of the text in .jsonl.")


def main() -> None:
    """Trains a model and writes it."""
    folder, output = (Path(flag.value).expanduser() for flag in (ROOT, OUTPUT))
    if not folder.is_dir():
        raise UserError(f"--root={ROOT.value} is not a folder: give one of text files.")
    output.write_bytes(trained(folder, FIELD.value, VOCABULARY_SIZE.value))
    print(f"{VOCABULARY_SIZE.value} ids: {output}")


if __name__ == "__main__":
    program.run(main, ROOT, OUTPUT)
