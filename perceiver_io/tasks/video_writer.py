"""Videos written frame by frame (PyAV)."""

import contextlib
import fractions
import os
import pathlib
import types
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from jaxtyping import Float32, UInt8

from perceiver_io.data.video.clips import SAMPLE_RATE
from perceiver_io.data.video.decoding import ffmpeg_path, import_av
from perceiver_io.errors import UserError

_BT709 = 1  # in H.264: matrix, primaries and transfer curve of HDTV
_LIMITED_RANGE = 1  # black is 16, white 235
_TICK = fractions.Fraction(1, 90_000)  # in seconds, as in MPEG


class VideoWriter:
    """Writes an mp4 file (H.264 with AAC sound) in a `with` block, with few frames in memory.

    The file has a temporary name until the block ends without an exception; then it replaces any
    existing file. Odd heights and widths are padded with a copy of the last row or column.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        frame_rate: fractions.Fraction | float,
        quality: int = 18,
        sound_bit_rate: int = 128_000,
        key_frame_every: int = 250,
        num_threads: int = 0,
    ):
        """Prepares a video.

        Args:
            path: the file to write, ending in .mp4.
            frame_rate: frames per second; used if `write` is called without durations.
            quality: x264's crf, from 0 (lossless) to 51 (worst); 18 is visually almost lossless.
            sound_bit_rate: of the sound, in bits per second.
            key_frame_every: the greatest number of frames from one key frame to the next.
            num_threads: that encode; 0 for as many as there are processors.

        Raises UserError for another file name ending, and for a rate that is not positive.
        """
        self._path = pathlib.Path(path)
        self._partial = self._path.with_name(f".{self._path.name}.partial")
        # 1001 as in 30000/1001, the frame rate of NTSC.
        self._rate = fractions.Fraction(frame_rate).limit_denominator(1001)
        if self._path.suffix.lower() != ".mp4":
            raise UserError(f"Cannot write the video {path}: its name must end in .mp4.")
        if self._rate <= 0:
            raise UserError(f"frame_rate={frame_rate} must be above 0 frames per second.")
        self._quality, self._sound_bit_rate = quality, sound_bit_rate
        self._key_frame_every, self._num_threads = key_frame_every, num_threads
        self._shape: tuple[int, ...] | None = None
        self._container: Any = None
        self._pictures: Any = None
        self._sound: Any = None
        self._num_frames = 0
        self._num_samples = 0
        self._seconds = fractions.Fraction(0)  # of the frames so far

    def __enter__(self) -> Self:
        """Creates the file. Raises UserError when it cannot be written."""
        self._av = import_av()
        try:
            self._partial.touch()  # PyAV would fail only at the first frame
            # With the index first, a video can be played while it is loading.
            self._container = self._av.open(
                ffmpeg_path(self._partial), "w", format="mp4", options={"movflags": "faststart"}
            )
        except OSError as error:
            raise UserError(f"Cannot write the video {self._path}: {error.strerror}.") from error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: types.TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self._finish()
        finally:
            with contextlib.suppress(self._av.error.FFmpegError):
                self._container.close()
            self._partial.unlink(missing_ok=True)

    def write(
        self,
        frames: UInt8[np.ndarray, "T H W 3"],
        audio: Float32[np.ndarray, "S 1"] | None = None,
        durations: Sequence[fractions.Fraction] | None = None,
    ) -> None:
        """Appends frames and their sound.

        Args:
            frames: RGB; all frames of a video have the same size.
            audio: one channel at 48 kHz, in [-1, 1]: 48,000 / frame_rate samples per frame. Sound
                must be given in all calls or in none.
            durations: duration of each frame in seconds, for a video without sound and with a
                variable frame rate; must be given in all calls or in none.

        Raises UserError when frames or sound are not of this form, or do not match each other.
        """
        frames = np.asarray(frames)
        self._check_frames(frames)
        if audio is not None:
            audio = np.asarray(audio)
            self._check_audio(audio)
        if self._shape is None:
            tick = 1 / self._rate if durations is None else _TICK
            self._begin(frames.shape[1:], tick, with_sound=audio is not None)
        self._check_sync(len(frames), 0 if audio is None else len(audio), audio is not None)
        for frame, seconds in zip(frames, durations or [1 / self._rate] * len(frames), strict=True):
            self._write_frame(frame, seconds)
        if audio is not None:
            self._write_audio(audio)

    def _check_frames(self, frames: np.ndarray) -> None:
        if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3:
            raise UserError(
                f"Frames of {self._path} are {frames.dtype} {list(frames.shape)}; they must be "
                "uint8 [number, height, width, 3]."
            )
        if self._shape is not None and frames.shape[1:] != self._shape:
            raise UserError(
                f"Frames of {self._path} change from {list(self._shape)} to "
                f"{list(frames.shape[1:])}; all frames of a video must have the same size."
            )

    def _check_audio(self, audio: np.ndarray) -> None:
        if audio.dtype != np.float32 or audio.ndim != 2 or audio.shape[-1] != 1:
            raise UserError(
                f"Sound of {self._path} is {audio.dtype} {list(audio.shape)}; it must be float32 "
                "[number of samples, 1]."
            )
        if not np.isfinite(audio).all():
            raise UserError(f"Sound of {self._path} has values that are not finite.")

    def _check_sync(self, num_frames: int, num_samples: int, has_audio: bool) -> None:
        """Raises UserError unless both streams have the same duration, to within a frame."""
        if has_audio != (self._sound is not None):
            raise UserError(
                f"{self._path} began {'with' if self._sound else 'without'} sound and continues "
                f"{'with' if has_audio else 'without'}; give sound with all frames or with none."
            )
        frames, samples = self._num_frames + num_frames, self._num_samples + num_samples
        expected = frames * SAMPLE_RATE / self._rate
        if has_audio and abs(samples - expected) > SAMPLE_RATE / self._rate:
            raise UserError(
                f"{frames} frames of {self._path} at {float(self._rate):g} frames per second need "
                f"{round(expected)} samples of sound at {SAMPLE_RATE} Hz, but there are {samples}."
            )

    def _begin(self, shape: tuple[int, ...], tick: fractions.Fraction, *, with_sound: bool) -> None:
        """Adds the streams, once the size of the frames is known; times are multiples of a tick."""
        self._shape = shape
        options = {"crf": str(self._quality), "g": str(self._key_frame_every)}
        if tick == _TICK:
            # With frames encoded out of order, mp4 states a wrong duration unless all frames have
            # the same duration.
            options["bf"] = "0"
        pictures = self._container.add_stream("libx264", rate=self._rate, options=options)
        pictures.height, pictures.width = (side + side % 2 for side in shape[:2])
        pictures.pix_fmt = "yuv420p"
        codec = pictures.codec_context
        codec.thread_count = self._num_threads
        codec.time_base = tick
        codec.flags |= self._av.codec.context.Flags.frame_duration
        codec.colorspace = codec.color_primaries = codec.color_trc = _BT709
        codec.color_range = _LIMITED_RANGE
        self._pictures = pictures
        if with_sound:
            self._sound = self._container.add_stream("aac", rate=SAMPLE_RATE, layout="mono")
            self._sound.codec_context.bit_rate = self._sound_bit_rate

    def _write_frame(self, frame: UInt8[np.ndarray, "H W 3"], seconds: fractions.Fraction) -> None:
        height, width, _ = frame.shape
        even = np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        picture = self._av.VideoFrame.from_ndarray(even, format="rgb24").reformat(
            format="yuv420p", dst_colorspace="itu709", dst_color_range=_LIMITED_RANGE
        )
        tick = self._pictures.codec_context.time_base
        # Two frames at the same time, as in some damaged videos, still need different times in mp4.
        begin, self._seconds = self._seconds, self._seconds + max(seconds, tick)
        picture.pts, picture.time_base = round(begin / tick), tick
        picture.duration = round(self._seconds / tick) - picture.pts
        self._container.mux(self._pictures.encode(picture))
        self._num_frames += 1

    def _write_audio(self, audio: Float32[np.ndarray, "S 1"]) -> None:
        if not len(audio):
            return
        samples = np.ascontiguousarray(np.clip(audio, -1, 1).T)
        sound = self._av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
        sound.sample_rate = SAMPLE_RATE
        sound.pts, sound.time_base = self._num_samples, fractions.Fraction(1, SAMPLE_RATE)
        self._container.mux(self._sound.encode(sound))
        self._num_samples += len(audio)

    def _finish(self) -> None:
        """Flushes the encoders and gives the file its final name."""
        if not self._num_frames:
            raise UserError(f"No frame was written to {self._path}; a video needs one.")
        for stream in filter(None, (self._pictures, self._sound)):
            self._container.mux(stream.encode())
        self._container.close()
        os.replace(self._partial, self._path)
