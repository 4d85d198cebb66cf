"""Videos of any length as streams of frames and sound."""

import fractions
import itertools
import math
import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32, UInt8

from perceiver_io.data.video import decoding
from perceiver_io.data.vision import image_sequence
from perceiver_io.errors import UserError

FRAME_RATE = 25
SAMPLE_RATE = 48_000
SAMPLES_PER_FRAME = SAMPLE_RATE // FRAME_RATE
FRAMES_PER_CLIP = 16


class Clip(NamedTuple):
    """A few frames of a video at a constant rate, and the sound that goes with them.

    Attributes:
        frames: RGB pixels. After the end of the video its last frame is repeated.
        audio: one channel in [-1, 1], with a fixed number of samples per frame; zeros where the
            video has no sound.
        num_frames: number of real frames; less than T in the last clip only.
        has_sound: False if the video has no sound from the clip's start on: then zeros stand for
            what is unknown, and not for silence.
    """

    frames: UInt8[np.ndarray, "T H W 3"]
    audio: Float32[np.ndarray, "S 1"]
    num_frames: int
    has_sound: bool


# A frame, and its part of the sound; None if the video has none from there on.
FrameWithSound = tuple[UInt8[np.ndarray, "H W 3"], Float32[np.ndarray, "s 1"] | None]


class TimedFrame(NamedTuple):
    """A frame of a video, and its time.

    Attributes:
        pixels: RGB.
        seconds: time since the first frame.
    """

    pixels: UInt8[np.ndarray, "H W 3"]
    seconds: fractions.Fraction


class FrameSequence(NamedTuple):
    """The frames of a video file or of a folder of images.

    Attributes:
        frames: [H, W, 3] uint8 each, RGB; an iterator that can be consumed once.
        length: number of frames, estimated where the file states a duration only; None: unknown.
        frame_rate: frames per second; None where unknown, as for a folder of images.
    """

    frames: Iterator[UInt8[np.ndarray, "H W 3"]]
    length: int | None
    frame_rate: fractions.Fraction | None


def pieces(
    path: str | os.PathLike[str],
    *,
    size: tuple[int, int],
    num_frames: int = FRAMES_PER_CLIP,
    samples_per_frame: int = SAMPLES_PER_FRAME,
    frame_rate: int = FRAME_RATE,
) -> Iterator[Clip]:
    """A video as clips of a few frames, one at a time in memory.

    Frames are repeated or dropped by timestamp to give a constant rate, scaled so that they just
    cover `size`, and cropped centrally. Sound is mixed to one channel, starts with the first frame,
    and is cut off after the last one.

    Args:
        path: any file that FFmpeg can read.
        size: (height, width) of the frames in pixels.
        num_frames: frames per clip.
        samples_per_frame: audio samples per frame; 1,920 is 48 kHz at 25 frames per second, 0 reads
            none.
        frame_rate: frames per second.

    Raises UserError when the file is missing, not a video, damaged, or truncated.
    """
    if min(size) < 1:
        raise UserError(f"size={size} must be a height and a width of at least 1 pixel.")
    if min(num_frames, frame_rate) < 1 or samples_per_frame < 0:
        raise UserError(
            f"num_frames={num_frames} and frame_rate={frame_rate} must be at least 1, "
            f"samples_per_frame={samples_per_frame} at least 0."
        )
    name = str(path)
    with decoding.opened_video(path, name) as container, decoding.opened_video(path, name) as sound:
        timed = synchronised(
            container,
            sound,
            *decoding.peek(decoding.decoded_frames(container, name), name),
            size=size,
            samples_per_frame=samples_per_frame,
            frame_rate=frame_rate,
        )
        while piece := list(itertools.islice(timed, num_frames)):
            yield padded_clip(piece, num_frames, samples_per_frame)


def synchronised(
    container: Any,
    sound: Any,
    first: Any,
    frames: Iterator[Any],
    *,
    size: tuple[int, int],
    samples_per_frame: int,
    frame_rate: int,
    skipped: int = 0,
) -> Iterator[FrameWithSound]:
    """Frames as in a `Clip`, each with its part of the sound.

    Args:
        container: of `frames`.
        sound: the same file opened again, not decoded yet.
        first: the first of `frames`.
        frames: decoded ones, from the last one before those wanted on.
        size: height and width.
        samples_per_frame: of the sound; 0 reads none.
        frame_rate: frames per second.
        skipped: number of frames of the video, at this rate, before the first one wanted.
    """
    stream = decoding.video_stream(container)
    origin = first.pts if stream.start_time is None else stream.start_time
    graph = decoding.clip_graph(
        first, stream, size=size, frame_rate=frame_rate, origin=origin, skipped=skipped
    )
    blocks: Iterator[np.ndarray] = iter(())
    if samples_per_frame:
        blocks = decoding.sound_blocks(
            sound,
            sample_rate=frame_rate * samples_per_frame,
            size=samples_per_frame,
            start=float(origin * first.time_base) + skipped / frame_rate,
        )
    turned = decoding.orientation(first)
    images = (decoding.pixels(image, turned) for image in decoding.filtered(frames, graph))
    whole = (np.pad(x, ((0, samples_per_frame - len(x)), (0, 0))) for x in blocks)
    return zip(images, itertools.chain(whole, itertools.repeat(None)), strict=False)


def cut(
    frames: UInt8[np.ndarray, "T H W 3"],
    audio: Float32[np.ndarray, "S 1"] | None,
    *,
    num_frames: int,
    samples_per_frame: int,
) -> Iterator[Clip]:
    """Frames and their sound, None if there is none, as clips like those of `pieces`."""
    blocks = [None] * len(frames) if audio is None else audio.reshape(-1, samples_per_frame, 1)
    timed = zip(frames, blocks, strict=True)
    while piece := list(itertools.islice(timed, num_frames)):
        yield padded_clip(piece, num_frames, samples_per_frame)


def padded_clip(piece: Sequence[FrameWithSound], num_frames: int, samples_per_frame: int) -> Clip:
    """From 1 to `num_frames` frames as a clip of that many, with so many samples for each."""
    images, blocks = zip(*piece, strict=True)
    frames = np.stack(images + images[-1:] * (num_frames - len(images)))
    audio = np.zeros((num_frames, samples_per_frame, 1), np.float32)
    for place, block in zip(audio, blocks, strict=False):
        if block is not None:
            place[:] = block
    return Clip(frames, audio.reshape(-1, 1), len(images), blocks[0] is not None)


def count_pieces(
    path: str | os.PathLike[str],
    *,
    num_frames: int = FRAMES_PER_CLIP,
    frame_rate: int = FRAME_RATE,
) -> int | None:
    """The number of clips that `pieces` will yield, going by the duration that the file states.

    An estimate, for progress bars; None where the file states no duration. Raises UserError when
    the file is missing or not a video.
    """
    with decoding.opened_video(path, str(path)) as container:
        seconds = decoding.duration(container, decoding.video_stream(container))
    return None if seconds is None else math.ceil(seconds * frame_rate / num_frames) or 1


def read_frames(path: str | os.PathLike[str]) -> FrameSequence:
    """The frames of a video file or a folder of images, without resampling or scaling.

    Images of a folder come in the natural order of their names (2 before 10).

    Raises UserError when the file or folder is missing, the file is not a video, the folder has no
    images, or the numbering of its images has a gap; and, while frames are read, when they are
    damaged or differ in size.
    """
    path = pathlib.Path(path)
    frames = (frame.pixels for frame in timed_frames(path))
    if path.is_dir():
        return FrameSequence(frames, len(image_sequence.list_frames(path)), None)
    with decoding.opened_video(path, str(path)) as container:
        stream = decoding.video_stream(container)
        seconds, rate = decoding.duration(container, stream), stream.guessed_rate
        estimate = round(seconds * rate) if seconds and rate else None
        return FrameSequence(frames, stream.frames or estimate, rate)


def timed_frames(path: str | os.PathLike[str]) -> Iterator[TimedFrame]:
    """The frames of `read_frames` with their times; images of a folder have 25 per second.

    Raises UserError as `read_frames` does, while frames are read.
    """
    path = pathlib.Path(path)
    if path.is_dir():
        images = image_sequence.read_images(image_sequence.list_frames(path))
        for index, pixels in enumerate(images):
            yield TimedFrame(pixels, fractions.Fraction(index, FRAME_RATE))
        return
    with decoding.opened_video(path, str(path)) as container:
        first, frames = decoding.peek(decoding.decoded_frames(container, str(path)), str(path))
        turned = decoding.orientation(first)
        for image in decoding.filtered(frames, decoding.rgb_graph(first)):
            seconds = (image.pts - first.pts) * image.time_base
            yield TimedFrame(decoding.pixels(image, turned), seconds)
