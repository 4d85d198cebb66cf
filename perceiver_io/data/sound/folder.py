"""A folder of sounds or videos with one sub-folder for each class."""

from pathlib import Path
from typing import ClassVar

from perceiver_io.data.pipeline.class_folder import ClassFolder
from perceiver_io.data.pipeline.dataset import Composed
from perceiver_io.data.sound.tagged import Tagged, TaggedPreparation
from perceiver_io.data.video.recordings import Recording
from perceiver_io.data.video.video_folder import VIDEO_SUFFIXES

_FORMATS = "aac aif aiff flac m4a mp3 oga ogg opus wav wma"
SOUND_SUFFIXES = frozenset(f".{name}" for name in _FORMATS.split())


class SoundFolder(ClassFolder):
    """Sounds and videos in the layout of `ClassFolder`, such as root/train/bark/1.wav."""

    kind: ClassVar[str] = "recordings"
    sample: ClassVar[str] = "1.wav"

    @staticmethod
    def suffixes() -> frozenset[str]:
        """Those of sound files and of videos."""
        return SOUND_SUFFIXES | VIDEO_SUFFIXES

    @staticmethod
    def example(path: str, label: int) -> Tagged:
        """A recording with the tag of its folder, of which nothing is read yet."""
        return Tagged(Recording(Path(path), path), (label,), path)


sound_folder = Composed(SoundFolder, TaggedPreparation)
