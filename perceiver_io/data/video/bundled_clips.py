"""Short videos with sound, bundled with the project; see bundled/clips/ORIGIN.md."""

import functools
import pathlib
from collections.abc import Sequence
from typing import ClassVar

from perceiver_io.data.pipeline.sources import ReadOnUse, Source
from perceiver_io.data.video.recordings import (
    ClipForm,
    LabelledRecording,
    Recording,
    count_frames,
)

_FOLDER = pathlib.Path(__file__).parents[1] / "bundled" / "clips"
_FRAMES = ClipForm(frame_rate=25)
# Which part of each video belongs to a split.
_PARTS = {"train": (0.0, 0.5), "validation": (0.5, 0.75), "test": (0.75, 1.0)}
# In frames. A quarter of the shortest video has as many as a window.
_WINDOW, _STEP = 34, 5


class BundledClips(Source):
    """Overlapping windows of 14 videos, whose class is the video that they are from.

    Each video has 5.5 to 9.6 s: its first half is for training, the third quarter for validation,
    the last for testing. Windows have 1.36 s and begin 0.2 s apart.
    """

    splits: ClassVar[tuple[str, ...]] = tuple(_PARTS)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the videos."""
        return tuple(path.stem for path in videos())

    def __call__(self, split: str) -> Sequence[LabelledRecording]:
        """The split's windows, in a mixed order."""
        return ReadOnUse(functools.partial(_windows, split))


def videos() -> list[pathlib.Path]:
    """The files of the videos, sorted by name."""
    return sorted(_FOLDER.glob("*.mp4"))


@functools.cache
def _windows(split: str) -> list[LabelledRecording]:
    begin, end = _PARTS[split]
    found = []
    for label, path in enumerate(videos()):
        frames = count_frames(Recording(path, path.stem), _FRAMES)
        last = int(end * frames) - _WINDOW
        for first in range(int(begin * frames), last + 1, _STEP):
            start, stop = (place / _FRAMES.frame_rate for place in (first, first + _WINDOW))
            window = Recording(path, f"{path.stem} ({start:.2f} s)", start, stop)
            found.append((first, LabelledRecording(window, label)))
    # Of one video after the other, since consecutive windows are much alike.
    return [window for _, window in sorted(found, key=lambda item: item[0])]
