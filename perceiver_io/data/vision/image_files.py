"""Which files are images."""

import functools
import os

from PIL import Image

from perceiver_io.data.pipeline.listing import FoundFiles, list_files

# Pillow recognises these, but decodes them only with the help of other programs, or not at all.
_NOT_DECODED = frozenset(("BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"))


@functools.cache
def image_suffixes() -> frozenset[str]:
    """The lower-case extensions of the formats that Pillow can decode."""
    return frozenset(
        suffix
        for suffix, name in Image.registered_extensions().items()
        if name in Image.OPEN and name not in _NOT_DECODED
    )


def list_image_files(folder: str | os.PathLike[str]) -> FoundFiles:
    """The images and other entries of a folder. Raises UserError if it cannot be read."""
    return list_files(folder, image_suffixes())
