"""Speed of reading random clips of videos, compared with a loop that decodes from the start.

    python -m scripts.benchmark_clips [--videos=6] [--clips=48]

The videos are the bundled ones, enlarged to 340x256 pixels and played forwards and backwards until
they are long enough, as H.264 with AAC. A clip has 16 frames of 224x224 pixels and 30,720 samples.
The loop decodes pictures and sound with PyAV from the start of the file to the end of the clip, and
scales, with FFmpeg's default filter, only the frames of the clip. Both use one thread; "per core"
is by processor time, so that a busy machine matters little.

Then a folder of which 5% are truncated or overwritten in part is checked, and all clips of the
others are read.
"""

import itertools
import math
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

if not __package__:  # Run as a file: imports start at the repository's root.
    sys.path[0] = str(Path(__file__).parents[1])

import av
import numpy as np
from absl import flags

from perceiver_io.data.video.bundled_clips import videos
from perceiver_io.data.video.clips import Clip
from perceiver_io.data.video.recordings import (
    ClipForm,
    Recording,
    count_frames,
    frames_with_sound,
    random_clip,
    remarks_on_video,
)
from perceiver_io.errors import UserError
from perceiver_io.runtime import program
from perceiver_io.tasks.video_writer import VideoWriter

VIDEOS = flags.DEFINE_integer("videos", 6, "Videos of each kind.", lower_bound=1, upper_bound=14)
CLIPS = flags.DEFINE_integer("clips", 48, "Clips to time of each kind.", lower_bound=1)

_FORM = ClipForm()
_SIZE = (256, 340)
_QUALITY = 23  # the default of x264
# Length in seconds, and frames from one key frame to the next.
_KINDS = {
    "10 s, a key frame in 10 s": (10, 250),
    "10 s, a key frame in 2 s": (10, 50),
    "10 s, a key frame in 16 frames": (10, 16),
    "60 s, a key frame in 10 s": (60, 250),
    "60 s, a key frame in 2 s": (60, 50),
}
_FOLDER_SIZE, _NUM_BROKEN = 40, 2

Read = Callable[[Path, np.random.Generator], Clip]


def main() -> None:
    """Prints clips per second and core, and what is lost to broken files."""
    with tempfile.TemporaryDirectory() as folder:
        for kind, (seconds, key_frame_every) in _KINDS.items():
            paths = list(_write_videos(Path(folder), seconds, key_frame_every))
            speeds = [_clips_per_second(read, paths) for read in (seek_and_read, decode_from_start)]
            print(
                f"{kind:32} {speeds[0]:6.1f} clips/s/core, from the start {speeds[1]:6.1f}: "
                f"{speeds[0] / speeds[1]:.2f}x"
            )
        print(_broken_folder(paths, Path(folder)))


def seek_and_read(path: Path, rng: np.random.Generator) -> Clip:
    """A random clip as in training."""
    return random_clip(Recording(path, path.name), _FORM, rng)


def decode_from_start(path: Path, rng: np.random.Generator) -> Clip:
    """A random clip by a loop over all that comes before it."""
    last = count_frames(Recording(path, path.name), _FORM) - _FORM.num_frames
    first = int(rng.integers(last + 1))
    end = first + _FORM.num_frames
    height, width = _FORM.image_size
    scaled = math.ceil(width * _SIZE[1] / _SIZE[0])
    left = (scaled - width) // 2
    with av.open(str(path)) as container:
        container.streams.video[0].codec_context.thread_count = 1
        images = [
            frame.reformat(width=scaled, height=height, format="rgb24").to_ndarray()
            for frame in itertools.islice(container.decode(video=0), end)
            if round(frame.time * _FORM.frame_rate) >= first
        ]
    with av.open(str(path)) as container:
        blocks = itertools.takewhile(
            lambda block: block.time < end / _FORM.frame_rate, container.decode(audio=0)
        )
        samples = np.concatenate([block.to_ndarray()[0] for block in blocks])
    sound = samples[first * _FORM.samples_per_frame : end * _FORM.samples_per_frame, None]
    return Clip(np.stack(images)[:, :, left : left + width], sound, len(images), True)


def _clips_per_second(read: Read, paths: list[Path]) -> float:
    """Clips per second of processor time; the same clips for each way to read them."""
    rng = np.random.default_rng(0)
    read(paths[0], rng)
    start = time.process_time()
    for path in itertools.islice(itertools.cycle(paths), CLIPS.value):
        clip = read(path, rng)
        if clip.frames.shape != (_FORM.num_frames, *_FORM.image_size, 3):
            raise UserError(f"{path}: {read.__name__} gives frames {clip.frames.shape}.")
    return CLIPS.value / (time.process_time() - start)


def _write_videos(folder: Path, seconds: int, key_frame_every: int) -> Iterator[Path]:
    form = ClipForm(num_frames=1, frame_rate=25, image_size=_SIZE)
    for source in videos()[: VIDEOS.value]:
        parts = list(frames_with_sound(Recording(source, source.stem), form))
        there_and_back = itertools.cycle(parts + parts[::-1])
        path = folder / f"{source.stem}_{seconds}_{key_frame_every}.mp4"
        writer = VideoWriter(path, frame_rate=25, quality=_QUALITY, key_frame_every=key_frame_every)
        with writer:
            for frame, samples in itertools.islice(there_and_back, 25 * seconds):
                writer.write(frame[None], samples)
        yield path


def _broken_folder(paths: list[Path], folder: Path) -> str:
    """A line on a folder with some broken videos."""
    names = [folder / f"{index}.mp4" for index in range(_FOLDER_SIZE)]
    for path, source in zip(names, itertools.cycle(paths), strict=False):
        path.write_bytes(source.read_bytes())
    truncated, overwritten = names[:_NUM_BROKEN]
    truncated.write_bytes(truncated.read_bytes()[:-100_000])
    data = bytearray(overwritten.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 2000] = bytes(2000)
    overwritten.write_bytes(data)
    good = []
    for path in names:
        try:
            remarks_on_video(Recording(path, path.name), _FORM)
            good.append(path)
        except UserError as error:
            print(f"broken: {error}")
    rng = np.random.default_rng(0)
    for path in good:
        seek_and_read(path, rng)
    return (
        f"{_FOLDER_SIZE} videos, {_NUM_BROKEN} of them broken: the check finds "
        f"{_FOLDER_SIZE - len(good)}, and {len(good)} are read"
    )


if __name__ == "__main__":
    program.run(main)
