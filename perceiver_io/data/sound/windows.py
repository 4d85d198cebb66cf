"""Windows of the bundled videos, whose tag is the video that they are from."""

import functools
from collections.abc import Sequence

from perceiver_io.data.pipeline.dataset import Composed
from perceiver_io.data.pipeline.sources import ReadOnUse
from perceiver_io.data.sound.tagged import Tagged, TaggedPreparation
from perceiver_io.data.video.bundled_clips import BundledClips


class ClipWindows(BundledClips):
    """The windows of `BundledClips`, each with one tag."""

    def __call__(self, split: str) -> Sequence[Tagged]:
        """The split's windows, in a mixed order."""
        return ReadOnUse(functools.partial(_windows, split))


clip_windows = Composed(ClipWindows, TaggedPreparation)


@functools.cache
def _windows(split: str) -> list[Tagged]:
    return [Tagged(x.recording, (x.label,), x.name) for x in BundledClips()(split)]
