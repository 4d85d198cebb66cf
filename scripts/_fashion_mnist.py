"""Fashion-MNIST (1708.07747): its files, and a folder of images for each class."""

import gzip
from pathlib import Path

import numpy as np
from PIL import Image

from perceiver_io.errors import UserError

CLASSES = (
    "t-shirt", "trouser", "pullover", "dress", "coat",
    "sandal", "shirt", "sneaker", "bag", "ankle-boot",
)  # fmt: skip


def read(source: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Images [N, 28, 28] and labels [N] of a part. Raises UserError if a file is missing."""
    arrays = []
    for kind, header in (("images-idx3", 16), ("labels-idx1", 8)):
        path = source / f"{name}-{kind}-ubyte.gz"
        if not path.is_file():
            raise UserError(f"There is no {path}: --source is the folder with the four .gz files.")
        arrays.append(np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8, offset=header))
    return arrays[0].reshape(-1, 28, 28), arrays[1]


def write(folder: Path, images: np.ndarray, labels: np.ndarray) -> None:
    """Writes images as CLASS/NUMBER.png."""
    for name in CLASSES:
        (folder / name).mkdir(parents=True, exist_ok=True)
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        Image.fromarray(image).save(folder / CLASSES[label] / f"{number:05}.png")
    print(f"{folder}: {len(images)} images")
