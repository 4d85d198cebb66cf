"""Creates a folder of images for each class from Fashion-MNIST (1708.07747), under the MIT licence.

    python -m scripts.prepare_fashion_mnist --output=FOLDER [--source=FOLDER_OF_GZ_FILES]

Without --source, apt-get downloads Debian's package dataset-fashion-mnist; elsewhere, give a folder
with its four files, such as train-images-idx3-ubyte.gz. The last 5000 of the 60,000 training images
become the validation split.
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
from scripts import _fashion_mnist as fashion_mnist

OUTPUT = flags.DEFINE_string("output", None, "Folder for the images.", required=True)
SOURCE = flags.DEFINE_string("source", None, "Folder with the four files, if downloaded.")

PACKAGE = "dataset-fashion-mnist"
NUM_VALIDATION = 5000


def main() -> None:
    """Writes SPLIT/CLASS/NUMBER.png, and prints how many."""
    output = Path(OUTPUT.value).expanduser()
    with tempfile.TemporaryDirectory() as folder:
        source = Path(SOURCE.value).expanduser() if SOURCE.value else downloaded(Path(folder))
        images, labels = fashion_mnist.read(source, "train")
        split = len(images) - NUM_VALIDATION
        fashion_mnist.write(output / "train", images[:split], labels[:split])
        fashion_mnist.write(output / "validation", images[split:], labels[split:])
        fashion_mnist.write(output / "test", *fashion_mnist.read(source, "t10k"))


def downloaded(folder: Path) -> Path:
    """The files of Debian's package, unpacked in a folder. Raises UserError if that fails."""
    call(folder, "apt-get", "download", PACKAGE)
    (package,) = folder.glob("*.deb")
    call(folder, "dpkg-deb", "-x", package.name, ".")
    return folder / "usr/share/datasets/fashion-mnist"


def call(folder: Path, *command: str) -> None:
    """Runs a command in a folder. Raises UserError if it is missing or fails."""
    instead = f"Give a folder with the four files of {PACKAGE} as --source."
    if shutil.which(command[0]) is None:
        raise UserError(f"There is no {command[0]} here. {instead}")
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if result.returncode:
        reason = " ".join(result.stderr.split())[:200]
        raise UserError(f"`{' '.join(command)}` failed ({reason}). {instead}")


if __name__ == "__main__":
    program.run(main, OUTPUT)
