"""Clips and stretches of sound from any place of a video or sound file, read without the rest."""

import collections
import contextlib
import dataclasses
import itertools
import math
import pathlib
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Annotated, Any, NamedTuple

import numpy as np
from jaxtyping import Float32

from perceiver_io.config.annotations import INPUT_SIZE, Length, Size, Width
from perceiver_io.data.video import decoding
from perceiver_io.data.video.clips import Clip, FrameWithSound, padded_clip, synchronised
from perceiver_io.errors import UserError

# Samples per second to which sound is resampled where only errors matter.
_CHECKED_RATE = 8000


class Recording(NamedTuple):
    """A video or sound file, or a part of one.

    Attributes:
        content: the file's path, or what it contains.
        name: for error messages.
        start: where the part begins, in seconds from the file's first frame, or from its first
            sample where only sound is read.
        stop: where it ends; may be beyond the end.
    """

    content: pathlib.Path | bytes
    name: str
    start: float = 0.0
    stop: float = math.inf


class LabelledRecording(NamedTuple):
    """A recording of a class; `name` for error messages."""

    recording: Recording
    label: int

    @property
    def name(self) -> str:
        """The recording's."""
        return self.recording.name


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClipForm:
    """The shape of clips.

    Attributes:
        num_frames: frames in a clip.
        frame_rate: frames per second.
        image_size: height and width of frames in pixels; they are scaled until they just cover it,
            and cropped centrally.
        samples_per_frame: samples of sound; the sample rate is this times `frame_rate`. 0, which
            configs do not take, reads no sound.
    """

    num_frames: Annotated[Length, INPUT_SIZE] = 16
    frame_rate: Width = 25
    image_size: Annotated[Size, INPUT_SIZE] = (224, 224)
    samples_per_frame: Annotated[Length, INPUT_SIZE] = 1920

    @property
    def num_samples(self) -> int:
        """Samples of sound in a clip."""
        return self.num_frames * self.samples_per_frame

    @property
    def sample_rate(self) -> int:
        """Samples per second."""
        return self.frame_rate * self.samples_per_frame


def read_clip(recording: Recording, form: ClipForm, first: int = 0) -> Clip:
    """A clip from any place, decoded from the key frame before it on.

    Args:
        recording: of a video.
        form: of the clip.
        first: the number of frames in the recording before the clip, at the clip's frame rate.

    Returns:
        The clip. Where the recording ends before it, `num_frames` is less than that of `form`.

    Raises UserError if the clip begins after the end, and where the file is missing, not a video,
    or damaged there.
    """
    with _opened(recording) as files:
        return _clip(recording, form, first, _piece(files, recording, form, first))


def frames_with_sound(
    recording: Recording, form: ClipForm, first: int = 0
) -> Generator[FrameWithSound]:
    """All frames from any place on, at the rate and size of clips, each with its part of the sound.

    That of all frames is None if there is none from there on. Where it ends before them, silence
    follows.

    Args:
        recording: of a video.
        form: of clips.
        first: the number of frames in the recording before these, at this rate.

    Raises UserError as `read_clip` does; there may be no frames.
    """
    with _opened(recording) as files:
        silence = None
        for image, sound in _timed(files, recording, form, first):
            if sound is not None and silence is None:
                silence = np.zeros_like(sound)
            yield image, silence if sound is None else sound


def display_size(recording: Recording) -> tuple[float, float]:
    """Height and width in pixels of equal sides, after rotation.

    Raises UserError if the file is missing, not a video, or damaged at its start.
    """
    with decoding.opened_video(*recording[:2]) as container:
        frames = decoding.decoded_frames(container, recording.name)
        first, _ = decoding.peek(frames, recording.name)
        return decoding.display_size(first, decoding.video_stream(container))


def count_frames(recording: Recording, form: ClipForm) -> int:
    """The number of frames at the clips' frame rate, at least 1, by the duration that is stated.

    Raises UserError if the file is missing or not a video.
    """
    with decoding.opened_video(*recording[:2]) as container:
        seconds = _duration(container, decoding.video_stream(container))
    return _frames_in(recording, form, seconds)


def random_clip(recording: Recording, form: ClipForm, rng: np.random.Generator) -> Clip:
    """A clip that begins at a random frame and is complete if the recording is long enough.

    Raises UserError as `read_clip` does.
    """
    (clip,) = _clips(recording, form, lambda last: [int(rng.integers(last + 1))])
    return clip


def spaced_clips(recording: Recording, form: ClipForm, count: int) -> Iterator[Clip]:
    """Clips at equal distances from the start to the end; one alone is in the middle.

    They overlap where the recording is short, and are all the same where it is shorter than a clip.
    Raises UserError as `read_clip` does.
    """
    yield from _clips(recording, form, lambda last: spaced(last, count))


def _clips(
    recording: Recording, form: ClipForm, choose: Callable[[int], Sequence[int]]
) -> Iterator[Clip]:
    """Clips from places that are chosen, given the last one where a clip is complete.

    The last one follows from the stated duration. Some files state that of their sound alone: if
    the last clip chosen is not complete, the frames are counted, and places are chosen again.
    """
    with _opened(recording) as files:
        seconds = decoding.duration(files.video, decoding.video_stream(files.video))
        count = _frames_in(recording, form, _measured(recording) if seconds is None else seconds)
        *others, last = choose(max(count - form.num_frames, 0))
        piece = _piece(files, recording, form, last)
    if last > 0 and len(piece) < form.num_frames:
        count = _frames_in(recording, form, _measured(recording))
        *others, last = choose(max(count - form.num_frames, 0))
        with _opened(recording) as files:
            piece = _piece(files, recording, form, last)
    for first in others:
        yield read_clip(recording, form, first)
    yield _clip(recording, form, last, piece)


def spaced(last: int, count: int) -> Sequence[int]:
    """Whole numbers at equal distances from 0 to `last`; one alone is in the middle."""
    places = np.linspace(0, last, count) if count > 1 else np.array([last / 2])
    return [int(place) for place in np.floor(places + 0.5)]


def read_sound(
    recording: Recording, *, sample_rate: int, num_samples: int, first: int = 0
) -> Float32[np.ndarray, "S 1"]:
    """Sound from any place of a video or sound file: one channel in [-1, 1].

    After the end of the recording there is silence.

    Args:
        recording: with sound; 0 seconds are at its first sample.
        sample_rate: samples per second of the result.
        num_samples: of the result.
        first: the number of samples in the recording before those wanted, at this rate.

    Raises UserError where the file is missing, has no sound, or is damaged.
    """
    skipped = round(recording.start * sample_rate) + first
    wanted = max(min(num_samples, recording.stop * sample_rate - skipped), 0)
    with decoding.opened_sound(*recording[:2]) as container:
        start = decoding.start_of(decoding.sound_stream(container)) + skipped / sample_rate
        size = min(num_samples, sample_rate)
        blocks = decoding.sound_blocks(container, sample_rate=sample_rate, size=size, start=start)
        found = list(itertools.islice(blocks, math.ceil(wanted / size)))
    samples = np.concatenate([*found, np.zeros((0, 1), np.float32)])[: round(wanted)]
    return np.pad(samples, ((0, num_samples - len(samples)), (0, 0)))


def count_samples(recording: Recording, sample_rate: int) -> int:
    """The number of samples at a rate, at least 1, by the duration that the file states.

    Raises UserError if the file is missing or has no sound, or none at the recording's start.
    """
    with decoding.opened_sound(*recording[:2]) as container:
        seconds = _duration(container, decoding.sound_stream(container))
    if recording.start > 0 and seconds <= recording.start:
        raise _no("sound", recording)
    samples = math.floor(min(seconds, recording.stop) * sample_rate + 1e-6)
    return max(samples - round(recording.start * sample_rate), 1)


def remarks_on_video(recording: Recording, form: ClipForm) -> str | None:
    """Whether a video that can be read is shorter than a clip, or without sound, in words.

    All of the recording is decoded. Raises UserError if it cannot be read, wherever it is damaged,
    and if the file ends before it begins.
    """
    remarks = []
    with decoding.opened_video(*recording[:2], num_threads=1) as container:
        stop = decoding.start_of(decoding.video_stream(container)) + recording.stop
        frames = decoding.frames_from(container, recording.name, recording.start)
        _, frames = decoding.peek(frames, recording.name)
        collections.deque(itertools.takewhile(lambda frame: frame.time < stop, frames), maxlen=0)
        has_sound = decoding.sound_stream(container) is not None
    if read_clip(recording, form).num_frames < form.num_frames:
        remarks.append("shorter than a clip")
    if not (has_sound and _decode_sound(recording)):
        remarks.append("without sound")
    return " and ".join(remarks) or None


def remarks_on_sound(recording: Recording, seconds: float) -> str | None:
    """As `remarks_on_video`, where only sound is read, in stretches of some seconds."""
    if not _decode_sound(recording):
        raise _no("sound", recording)
    found = count_samples(recording, _CHECKED_RATE) / _CHECKED_RATE
    return "shorter than a clip" if found < seconds else None


def _decode_sound(recording: Recording) -> bool:
    """Decodes all the sound of a recording, if there is any. Raises UserError where damaged."""
    with decoding.opened_sound(*recording[:2]) as container:
        start = decoding.start_of(decoding.sound_stream(container)) + recording.start
        blocks = decoding.sound_blocks(
            container, sample_rate=_CHECKED_RATE, size=_CHECKED_RATE, start=start
        )
        seconds = recording.stop - recording.start
        last = None if math.isinf(seconds) else math.ceil(seconds)
        found = collections.deque(itertools.islice(blocks, last), maxlen=1)
    return bool(found)


class _Files(NamedTuple):
    """A file opened twice, since frames and sound are decoded independently."""

    video: Any
    sound: Any


@contextlib.contextmanager
def _opened(recording: Recording) -> Iterator[_Files]:
    with (
        decoding.opened_video(*recording[:2], num_threads=1) as video,
        decoding.opened_video(*recording[:2]) as sound,
    ):
        yield _Files(video, sound)


def _piece(files: _Files, recording: Recording, form: ClipForm, first: int) -> list[FrameWithSound]:
    """The frames of a clip; none after the end."""
    return list(itertools.islice(_timed(files, recording, form, first), form.num_frames))


def _clip(
    recording: Recording, form: ClipForm, first: int, piece: Sequence[FrameWithSound]
) -> Clip:
    """A clip of the frames of its piece. Raises UserError if there are none."""
    if not piece:
        raise _no("frame", recording, first / form.frame_rate)
    return padded_clip(piece, form.num_frames, form.samples_per_frame)


def _no(what: str, recording: Recording, seconds: float = 0.0) -> UserError:
    """An error about a place after the end."""
    place = recording.start + seconds
    return UserError(
        f"{recording.name} has no {what} at {place:.2f} s of the file, where a clip was to begin."
    )


def _timed(
    files: _Files, recording: Recording, form: ClipForm, first: int
) -> Iterator[FrameWithSound]:
    """As `frames_with_sound`, and None where the sound has ended."""
    skipped = round(recording.start * form.frame_rate) + first
    frames = decoding.frames_from(files.video, recording.name, skipped / form.frame_rate)
    timed = synchronised(
        *files,
        *decoding.peek(frames, recording.name),
        size=form.image_size,
        samples_per_frame=form.samples_per_frame,
        frame_rate=form.frame_rate,
        skipped=skipped,
    )
    if math.isinf(recording.stop):
        return timed
    return itertools.islice(timed, max(round(recording.stop * form.frame_rate) - skipped, 0))


def _frames_in(recording: Recording, form: ClipForm, seconds: float) -> int:
    """The number of frames of a recording, at least 1, of a file of some seconds."""
    frames = math.floor(min(seconds, recording.stop) * form.frame_rate + 1e-6)
    return max(frames - round(recording.start * form.frame_rate), 1)


def _measured(recording: Recording) -> float:
    """Seconds from the first frame of a file to the end of the last one."""
    with decoding.opened_video(*recording[:2]) as container:
        return decoding.measured_duration(container, decoding.video_stream(container))


def _duration(container: Any, stream: Any) -> float:
    """Seconds, as stated or else measured."""
    stated = decoding.duration(container, stream)
    return decoding.measured_duration(container, stream) if stated is None else stated
