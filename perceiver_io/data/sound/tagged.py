"""Recordings with any number of tags: preparation as input of a model of sound, video or both."""

import dataclasses
import functools
from collections.abc import Iterator
from typing import Annotated, Any, NamedTuple

import numpy as np
import scipy.signal
from jaxtyping import Float32, Int32, UInt8

from perceiver_io.config.annotations import (
    INPUT_SIZE,
    Choice,
    Length,
    NonNegative,
    Rate,
    Size,
    Width,
    within,
)
from perceiver_io.data.pipeline.dataset import Example, Preparation, Spec
from perceiver_io.data.sound.features import FEATURES, Features
from perceiver_io.data.video import decoding
from perceiver_io.data.video.clips import Clip
from perceiver_io.data.video.recordings import (
    ClipForm,
    Recording,
    count_samples,
    random_clip,
    read_sound,
    remarks_on_sound,
    remarks_on_video,
    spaced,
    spaced_clips,
)
from perceiver_io.errors import UserError

MODALITIES = ("sound", "video")
MOST_TAGS = 32
NO_TAG = -1


class Samples(NamedTuple):
    """A sound in memory, one channel from -1 to 1, at the sample rate that the features need."""

    samples: Float32[np.ndarray, " S"]
    sample_rate: int


class Tagged(NamedTuple):
    """A recording with the indices of its classes; `name` for error messages."""

    source: Recording | Samples
    tags: tuple[int, ...]
    name: str


class Excerpt(NamedTuple):
    """What a model is given of a recording at a time; None for what it does not take or have."""

    sound: Float32[np.ndarray, " S"] | None
    frames: UInt8[np.ndarray, "T H W 3"] | None


def excerpt_of(clip: Clip) -> Excerpt:
    """The frames and the sound of a clip, if it has any."""
    return Excerpt(clip.audio[:, 0] if clip.has_sound else None, clip.frames)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Frames:
    """The form of a stretch of video, and its augmentation.

    Attributes:
        num_frames: of the stretch.
        frame_rate: frames per second.
        image_size: height and width in pixels.
        margin: in training, frames are this much larger before a random part is cut out.
        flip: mirror half of the training videos, left to right.
    """

    num_frames: Annotated[Length, INPUT_SIZE] = 32
    frame_rate: Width = 25
    image_size: Annotated[Size, INPUT_SIZE] = (224, 224)
    margin: Annotated[float, within(1, 4)] = 1.0
    flip: bool = True

    @property
    def shape(self) -> tuple[int, ...]:
        """[T, H, W, 3]."""
        return self.num_frames, *self.image_size, 3

    @property
    def enlarged(self) -> tuple[int, int]:
        """Height and width before a random part is cut out."""
        height, width = self.image_size
        return round(height * self.margin), round(width * self.margin)

    def augmented(
        self, frames: UInt8[np.ndarray, "T h w 3"], rng: np.random.Generator
    ) -> UInt8[np.ndarray, "T H W 3"]:
        """A random part of enlarged frames, perhaps mirrored."""
        height, width = self.image_size
        top, left = (
            int(rng.integers(whole - part + 1))
            for whole, part in zip(self.enlarged, self.image_size, strict=True)
        )
        part = frames[:, top : top + height, left : left + width]
        return part[:, :, ::-1] if self.flip and rng.random() < 0.5 else part


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaggedInput:
    """What a model takes of a recording: features of sound, frames, or both at the same time.

    Attributes:
        sound: how sound is represented; None: the model takes none.
        video: the form of frames; None: the model takes none.

    Raises UserError if there is neither, and for stretches that differ in length.
    """

    sound: Features | None
    video: Frames | None

    def __post_init__(self) -> None:
        if self.sound is None and self.video is None:
            raise UserError(
                "config.data.sound and config.data.video are both None, so that the model would be "
                "given nothing: set one or both."
            )
        if self.sound is None or self.video is None:
            return
        samples, rate = self.sound.num_samples, self.sound.sample_rate
        if samples * self.video.frame_rate != self.video.num_frames * rate:
            raise UserError(
                f"config.data.sound has {samples} samples at {rate} Hz, {samples / rate:g} s, but "
                f"config.data.video {self.video.num_frames} frames at {self.video.frame_rate} Hz, "
                f"{self.video.num_frames / self.video.frame_rate:g} s: give both the same length."
            )
        if samples % self.video.num_frames:
            raise UserError(
                f"config.data.sound has {samples} samples, which do not divide into the "
                f"{self.video.num_frames} frames of config.data.video: choose a sample rate that "
                "is a multiple of the frame rate."
            )

    def clip_form(self, image_size: Size) -> ClipForm:
        """The form of clips with frames of a size, and with the sound of each."""
        per_frame = 0 if self.sound is None else self.sound.num_samples // self.video.num_frames
        return ClipForm(
            num_frames=self.video.num_frames,
            frame_rate=self.video.frame_rate,
            image_size=image_size,
            samples_per_frame=per_frame,
        )

    @property
    def seconds(self) -> float:
        """The length of a stretch."""
        if self.sound is not None:
            return self.sound.num_samples / self.sound.sample_rate
        return self.video.num_frames / self.video.frame_rate

    def __call__(self, excerpt: Excerpt) -> Example:
        """`sound` and `video`, and whether each is present."""
        example = {}
        if self.sound is not None:
            silence = np.zeros(self.sound.num_samples, np.float32)
            samples = silence if excerpt.sound is None else excerpt.sound
            example["sound"] = self.sound(samples)
            example["sound_present"] = np.bool_(excerpt.sound is not None)
        if self.video is not None:
            black = np.zeros(self.video.shape, np.uint8)
            example["video"] = black if excerpt.frames is None else excerpt.frames
            example["video_present"] = np.bool_(excerpt.frames is not None)
        return example

    def spec(self) -> Spec:
        """Shapes and dtypes of an example."""
        spec = {}
        if self.sound is not None:
            spec["sound"] = (self.sound.shape, np.dtype(np.float32))
            spec["sound_present"] = ((), np.dtype(bool))
        if self.video is not None:
            spec["video"] = (self.video.shape, np.dtype(np.uint8))
            spec["video_present"] = ((), np.dtype(bool))
        return spec


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaggedPreparation(Preparation):
    """`Tagged` recordings as `sound`, `video` and `tags`.

    Where the model takes sound and video, a recording may lack one of them.

    A training example is a stretch from a random place; sounds that are shorter are put at a random
    place in silence. In evaluation, one stretch is in the middle, several are at equal distances
    from the start to the end. `tags` [32] has the indices of the classes, then -1.

    Attributes:
        sound: how sound is represented; None: without sound.
        video: the form of frames; None: without video.
        max_speed: in training, sounds without video are played up to so many times as fast or as
            slowly, at a higher or lower pitch.
        mixup_alpha: MixUp weights are Beta(alpha, alpha) distributed; 0: no MixUp.
        modality_dropout: of training examples with sound and video, the share that lacks one.
    """

    sound: Annotated[Features | None, Choice(FEATURES)] = None
    video: Frames | None = None
    max_speed: Annotated[float, within(1, 4)] = 1.0
    mixup_alpha: NonNegative = 0.0
    modality_dropout: Rate = 0.0

    def __post_init__(self) -> None:
        self._input  # noqa: B018  # Fails early on wrong settings.

    @functools.cached_property
    def _input(self) -> TaggedInput:
        return TaggedInput(sound=self.sound, video=self.video)

    def training_example(self, raw: Tagged, rng: np.random.Generator) -> Example:
        """A random stretch, augmented."""
        excerpt = self._random(raw, rng)
        if excerpt.frames is not None:
            excerpt = excerpt._replace(frames=self.video.augmented(excerpt.frames, rng))
        example = self._input(excerpt) | _tags(raw)
        if self.sound is not None:
            example["sound"] = self.sound.masked(example["sound"], rng)
        given = [name for name in self._modalities if example[f"{name}_present"]]
        if len(given) > 1 and rng.random() < self.modality_dropout:
            example[f"{rng.choice(given)}_present"] = np.bool_(False)
        if self.mixup_alpha > 0:
            example["mixup_weight"] = np.float32(rng.beta(self.mixup_alpha, self.mixup_alpha))
        return example

    def evaluation_example(self, raw: Tagged, rng: np.random.Generator) -> Example:
        """The stretch in the middle."""
        del rng
        (example,) = self.stretches(raw, 1)
        return example

    def stretches(self, raw: Tagged, count: int) -> Iterator[Example]:
        """Stretches at equal distances, as in evaluation."""
        for excerpt in self._spaced(raw, count):
            mixing = {"mixup_weight": np.float32(1)} if self.mixup_alpha > 0 else {}
            yield self._input(excerpt) | _tags(raw) | mixing

    def check(self, raw: Tagged, rng: np.random.Generator) -> str | None:
        """Decodes all of a recording, see `Preparation`."""
        if isinstance(raw.source, Samples):
            return super().check(raw, rng)
        if self._shows(raw):
            return remarks_on_video(raw.source, self._input.clip_form(self.video.image_size))
        remarks = [remarks_on_sound(raw.source, self._input.seconds)]
        remarks += ["without video"] if self.video is not None else []
        return " and ".join(filter(None, remarks)) or None

    def example_spec(self) -> Spec:
        """`sound`, `video`, whether each is present, `tags`, and the weight of MixUp."""
        mixing = {"mixup_weight": ((), np.dtype(np.float32))} if self.mixup_alpha > 0 else {}
        return self._input.spec() | {"tags": ((MOST_TAGS,), np.dtype(np.int32))} | mixing

    def for_prediction(self) -> dict[str, Any]:
        """The sections `sound` and `video`."""
        names = {kind: name for name, kind in FEATURES.items()}
        sound = self.sound and {"name": names[type(self.sound)], **dataclasses.asdict(self.sound)}
        return {"sound": sound, "video": self.video and dataclasses.asdict(self.video)}

    @property
    def _modalities(self) -> list[str]:
        return [name for name in MODALITIES if getattr(self, name) is not None]

    def _shows(self, raw: Tagged) -> bool:
        """Whether there is a video, and the model takes it; UserError if it would have nothing."""
        if self.video is None:
            return False
        has_video = isinstance(raw.source, Recording) and decoding.has_video(*raw.source[:2])
        if not has_video and self.sound is None:
            raise UserError(
                f"{raw.name} has no video, but the model takes nothing else: choose other data, or "
                "a model with config.data.sound."
            )
        return has_video

    def _random(self, raw: Tagged, rng: np.random.Generator) -> Excerpt:
        if self._shows(raw):
            form = self._input.clip_form(self.video.enlarged)
            return excerpt_of(random_clip(raw.source, form, rng))
        speed = self.max_speed ** rng.uniform(-1, 1)
        wanted = round(self.sound.num_samples * speed)
        spare = self._count(raw) - wanted
        # Less than 0: silence before a short sound.
        first = int(rng.integers(min(spare, 0), max(spare, 0) + 1))
        samples = self._read(raw, first, wanted)
        if wanted != self.sound.num_samples:
            samples = scipy.signal.resample(samples, self.sound.num_samples)
        return Excerpt(samples, None)

    def _spaced(self, raw: Tagged, count: int) -> Iterator[Excerpt]:
        if self._shows(raw):
            form = self._input.clip_form(self.video.image_size)
            yield from map(excerpt_of, spaced_clips(raw.source, form, count))
            return
        spare = max(self._count(raw) - self.sound.num_samples, 0)
        for first in spaced(spare, count):
            yield Excerpt(self._read(raw, first, self.sound.num_samples), None)

    def _count(self, raw: Tagged) -> int:
        """The number of samples of a sound."""
        if isinstance(raw.source, Samples):
            _check_rate(raw, self.sound.sample_rate)
            return len(raw.source.samples)
        return count_samples(raw.source, self.sound.sample_rate)

    def _read(self, raw: Tagged, first: int, count: int) -> Float32[np.ndarray, " S"]:
        """Samples of a sound; before its first one, and after its last, there is silence."""
        before = max(-first, 0)
        if isinstance(raw.source, Samples):
            found = raw.source.samples[max(first, 0) :][: count - before]
        else:
            found = read_sound(
                raw.source,
                sample_rate=self.sound.sample_rate,
                num_samples=count - before,
                first=max(first, 0),
            )[:, 0]
        return np.pad(found, (before, count - before - len(found)))


@dataclasses.dataclass(frozen=True)
class SpacedStretches(Preparation):
    """Several stretches of each evaluated recording, as arrays [count, ...]; one set of tags.

    Attributes:
        preparation: of a single stretch.
        count: how many.
    """

    preparation: TaggedPreparation
    count: int

    def training_example(self, raw: Tagged, rng: np.random.Generator) -> Example:
        """As in evaluation."""
        return self.evaluation_example(raw, rng)

    def evaluation_example(self, raw: Tagged, rng: np.random.Generator) -> Example:
        """The stretches, and the tags."""
        del rng
        rows = list(self.preparation.stretches(raw, self.count))
        several = {name: np.stack([row[name] for row in rows]) for name in self._inputs}
        return rows[0] | several

    def example_spec(self) -> Spec:
        """That of a stretch, with an axis for all of them before its inputs."""
        spec = self.preparation.example_spec()
        several = {name: ((self.count, *spec[name][0]), spec[name][1]) for name in self._inputs}
        return spec | several

    @property
    def _inputs(self) -> list[str]:
        return [name for name in self.preparation.example_spec() if name.startswith(MODALITIES)]


def _tags(raw: Tagged) -> dict[str, Int32[np.ndarray, " 32"]]:
    if len(raw.tags) > MOST_TAGS:
        raise UserError(f"{raw.name} has {len(raw.tags)} tags, but there is room for {MOST_TAGS}.")
    tags = np.full(MOST_TAGS, NO_TAG, np.int32)
    tags[: len(raw.tags)] = raw.tags
    return {"tags": tags}


def _check_rate(raw: Tagged, sample_rate: int) -> None:
    if raw.source.sample_rate != sample_rate:
        raise UserError(
            f"{raw.name} has {raw.source.sample_rate} samples per second, but "
            f"config.data.sound.sample_rate is {sample_rate}: set it to {raw.source.sample_rate}."
        )
