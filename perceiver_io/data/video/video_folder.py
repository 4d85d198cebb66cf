"""A folder of videos with one sub-folder for each class."""

import pathlib
from typing import ClassVar

from perceiver_io.data.pipeline.class_folder import ClassFolder
from perceiver_io.data.video.recordings import LabelledRecording, Recording

# Containers that hold videos; what is in them is known only when they are opened.
_CONTAINERS = "3gp asf avi flv m2ts m4v mkv mov mp4 mpeg mpg mts ogv ts webm wmv"
VIDEO_SUFFIXES = frozenset(f".{name}" for name in _CONTAINERS.split())


class VideoFolder(ClassFolder):
    """Videos in the layout of `ClassFolder`, such as root/train/juggling/1.mp4."""

    kind: ClassVar[str] = "videos"
    sample: ClassVar[str] = "1.mp4"

    @staticmethod
    def suffixes() -> frozenset[str]:
        """Those of the containers in which videos come."""
        return VIDEO_SUFFIXES

    @staticmethod
    def example(path: str, label: int) -> LabelledRecording:
        """A video, of which nothing is read yet."""
        return LabelledRecording(Recording(pathlib.Path(path), path), label)
