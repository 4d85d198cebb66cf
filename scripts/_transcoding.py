"""Smaller copies of videos: fewer pixels, a constant frame rate, frequent key frames."""

import contextlib
from pathlib import Path
from typing import NamedTuple

from perceiver_io.data.video import recordings
from perceiver_io.data.video.clips import SAMPLE_RATE
from perceiver_io.data.video.recordings import ClipForm, Recording
from perceiver_io.errors import UserError
from perceiver_io.tasks.video_writer import VideoWriter


class CopyForm(NamedTuple):
    """The form of copies.

    Attributes:
        shorter_side: height or width in pixels; smaller videos keep their size.
        frame_rate: frames per second, a divisor of 48,000.
        quality: x264's crf.
        sound_bit_rate: in bits per second; the sound is AAC, one channel, 48 kHz.
        key_frame_every: frames from one key frame to the next.
    """

    shorter_side: int
    frame_rate: int
    quality: int
    sound_bit_rate: int
    key_frame_every: int


def transcode(recording: Recording, output: Path, form: CopyForm) -> int:
    """Writes a smaller copy of a recording as mp4; returns its number of frames.

    Raises UserError if the recording cannot be decoded to its end, or the copy not written, and for
    a frame rate that is no divisor.
    """
    if SAMPLE_RATE % form.frame_rate:
        raise UserError(
            f"frame_rate={form.frame_rate} must be a divisor of {SAMPLE_RATE:,}, the sample rate."
        )
    height, width = recordings.display_size(recording)
    scale = min(1, form.shorter_side / min(height, width))
    size = (2 * round(height * scale / 2) or 2, 2 * round(width * scale / 2) or 2)
    clip_form = ClipForm(
        num_frames=1,
        frame_rate=form.frame_rate,
        image_size=size,
        samples_per_frame=SAMPLE_RATE // form.frame_rate,
    )
    writer = VideoWriter(
        output,
        frame_rate=form.frame_rate,
        quality=form.quality,
        sound_bit_rate=form.sound_bit_rate,
        key_frame_every=form.key_frame_every,
        num_threads=1,
    )
    count = 0
    with writer, contextlib.closing(recordings.frames_with_sound(recording, clip_form)) as frames:
        for frame, samples in frames:
            writer.write(frame[None], samples)
            count += 1
    return count
