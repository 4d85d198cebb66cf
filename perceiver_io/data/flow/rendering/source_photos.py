"""Photographs from installed packages, as material for textures."""

import functools
import pathlib
import zipfile

import cv2
import numpy as np
import skimage.data
from jaxtyping import UInt8
from sklearn.datasets import load_sample_image

_FRUIT = pathlib.Path(__file__).parents[2] / "bundled" / "photos" / "photos.zip"

# No photograph is used in two splits. Names that end in .jpg are in scikit-learn, the others in
# scikit-image, whose two photographs of a motorcycle are left out because they are for evaluation.
PHOTOS = {
    "train": (
        "astronaut",
        "brick",
        "cell",
        "china.jpg",
        "coffee",
        "coins",
        "grass",
        "hubble_deep_field",
        "immunohistochemistry",
        "moon",
        "page",
        "retina",
    ),
    "validation": ("camera", "chelsea", "text"),
    "test": ("clock", "flower.jpg", "gravel", "rocket"),
}


@functools.cache
def photo(name: str) -> UInt8[np.ndarray, "H W C"]:
    """A photograph named in `PHOTOS`, with one channel if it is grey, else three (RGB)."""
    if name.endswith(".jpg"):
        return load_sample_image(name)
    pixels = getattr(skimage.data, name)()
    return pixels if pixels.ndim == 3 else pixels[..., None]


@functools.cache
def fruit(split: str) -> tuple[UInt8[np.ndarray, "H W 3"], ...]:
    """The bundled photographs of fruit, 64 pixels on the shorter side, in their original splits."""
    with zipfile.ZipFile(_FRUIT) as archive:
        files = [archive.read(name) for name in archive.namelist() if name.split("/")[0] == split]
    decoded = (cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_COLOR) for file in files)
    return tuple(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB) for pixels in decoded)
