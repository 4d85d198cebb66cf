"""A folder of images with one sub-folder for each class."""

import pathlib
from typing import ClassVar

from perceiver_io.data.pipeline.class_folder import ClassFolder
from perceiver_io.data.pipeline.dataset import Composed
from perceiver_io.data.vision.image_files import image_suffixes
from perceiver_io.data.vision.images import EncodedImage, PhotographPreparation
from perceiver_io.errors import UserError


class ImageFolder(ClassFolder):
    """Images in the layout of `ClassFolder`."""

    kind: ClassVar[str] = "images"
    sample: ClassVar[str] = "1.jpg"

    @staticmethod
    def suffixes() -> frozenset[str]:
        """Those of all formats that Pillow can decode."""
        return image_suffixes()

    @staticmethod
    def example(path: str, label: int) -> EncodedImage:
        """The content of an image file. Raises UserError if it cannot be read."""
        try:
            return EncodedImage(pathlib.Path(path).read_bytes(), label, path)
        except OSError as error:
            raise UserError(f"Cannot read image {path}: {error.strerror}.") from error


image_folder = Composed(ImageFolder, PhotographPreparation)
