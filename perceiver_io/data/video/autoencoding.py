"""Preparation of labelled clips for autoencoding, with the points to reconstruct."""

import dataclasses
from typing import Annotated, Any

import numpy as np

from perceiver_io.config.annotations import INPUT_SIZE, Count, Probability, Width
from perceiver_io.data.pipeline.dataset import Composed, Example, Preparation, Spec
from perceiver_io.data.video.bundled_clips import BundledClips
from perceiver_io.data.video.clips import Clip
from perceiver_io.data.video.kinetics import Kinetics
from perceiver_io.data.video.recordings import (
    ClipForm,
    LabelledRecording,
    random_clip,
    remarks_on_video,
    spaced_clips,
)
from perceiver_io.data.video.shards import VideoShards
from perceiver_io.data.video.video_folder import VideoFolder
from perceiver_io.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class AutoencodingPreparation(Preparation):
    """`LabelledRecording`s as clips, with random points to reconstruct (Perceiver IO, section 4.3).

    An example has the frames `image` [T, H, W, 3] (uint8), the sound `audio` [P, S] in P patches,
    `label`, and `is_real` [T], False for the copies of the last frame that pad a short clip.
    `has_sound` tells whether the sound is known; it is not where a video has none.
    `image_present`, `audio_present` and `label_present` tell what the model is given of it.
    `image_points` [image_points] and `audio_points` [audio_points] are the different places to
    reconstruct, as indices into all pixels and patches in array order.

    A training clip begins at a random frame of its recording; an evaluated one is its middle.

    Attributes:
        form: of the clips.
        samples_per_patch: samples of sound in a patch.
        image_points: number of pixels to reconstruct.
        audio_points: number of patches of sound to reconstruct.
        hide_label: share of training examples whose label the model is not given; in evaluation all
            labels are hidden.
        hide_image: share of training examples whose frames are hidden; in evaluation none are.
        hide_audio: likewise of the sound. One of the two is always given; of a clip without sound,
            the frames.
    """

    form: ClipForm
    samples_per_patch: Annotated[Width, INPUT_SIZE] = 16
    image_points: Count = 512
    audio_points: Count = 512
    hide_label: Probability = 0.5
    hide_image: Probability = 0.0
    hide_audio: Probability = 0.0

    def __post_init__(self) -> None:
        if self.form.num_samples % self.samples_per_patch:
            raise UserError(
                f"A clip has {self.form.num_samples} samples of sound, which do not divide into "
                f"patches of config.data.samples_per_patch={self.samples_per_patch}."
            )
        for name, count in self.num_places.items():
            wanted = getattr(self, f"{name}_points")
            if wanted > count:
                raise UserError(
                    f"config.data.{name}_points is {wanted}, but a clip has only {count} different "
                    "ones: make it smaller."
                )
        if self.hide_image + self.hide_audio > 1:
            raise UserError(
                f"config.data.hide_image={self.hide_image} and hide_audio={self.hide_audio} add up "
                "to more than 1, but one of the two is always given: make them smaller."
            )

    @property
    def num_places(self) -> dict[str, int]:
        """The number of pixels and of patches of sound in a clip."""
        height, width = self.form.image_size
        return {
            "audio": self.form.num_samples // self.samples_per_patch,
            "image": self.form.num_frames * height * width,
        }

    def training_example(self, raw: LabelledRecording, rng: np.random.Generator) -> Example:
        """A random clip, with modalities hidden at random."""
        clip = random_clip(raw.recording, self.form, rng)
        place = rng.random()
        present = {
            "image": place >= self.hide_image or not clip.has_sound,
            "audio": place < 1 - self.hide_audio and clip.has_sound,
            "label": rng.random() >= self.hide_label,
        }
        return self._example(clip, raw.label, present, rng)

    def evaluation_example(self, raw: LabelledRecording, rng: np.random.Generator) -> Example:
        """The clip in the middle, without its label."""
        (clip,) = spaced_clips(raw.recording, self.form, 1)
        present = dict(image=True, audio=clip.has_sound, label=False)
        return self._example(clip, raw.label, present, rng)

    def check(self, raw: LabelledRecording, rng: np.random.Generator) -> str | None:
        """Decodes all of the recording, since training reads from anywhere."""
        del rng
        return remarks_on_video(raw.recording, self.form)

    def example_spec(self) -> Spec:
        """As in the description of the class."""
        flag, index = np.dtype(bool), np.dtype(np.int32)
        count, frames = self.num_places["audio"], self.form.num_frames
        return {
            "image": ((frames, *self.form.image_size, 3), np.dtype(np.uint8)),
            "audio": ((count, self.samples_per_patch), np.dtype(np.float32)),
            "label": ((), index),
            "is_real": ((frames,), flag),
            "has_sound": ((), flag),
            **{f"{name}_present": ((), flag) for name in ("image", "audio", "label")},
            "image_points": ((self.image_points,), index),
            "audio_points": ((self.audio_points,), index),
        }

    def for_prediction(self) -> dict[str, Any]:
        """`frame_rate`, in frames per second; the sizes are the model's.

        `sound_can_be_missing`: a model of these examples knows what its mask tokens of sound mean.
        """
        return {"frame_rate": self.form.frame_rate, "sound_can_be_missing": True}

    def _example(
        self, clip: Clip, label: int, present: dict[str, bool], rng: np.random.Generator
    ) -> Example:
        points = {
            f"{name}_points": rng.choice(
                count, getattr(self, f"{name}_points"), replace=False, shuffle=False
            ).astype(np.int32)
            for name, count in self.num_places.items()
        }
        return {
            "image": clip.frames,
            "audio": clip.audio.reshape(-1, self.samples_per_patch),
            "label": np.int32(label),
            "is_real": np.arange(len(clip.frames)) < clip.num_frames,
            "has_sound": np.bool_(clip.has_sound),
            **{f"{name}_present": np.bool_(x) for name, x in present.items()},
            **points,
        }


bundled_clips = Composed(BundledClips, AutoencodingPreparation)
kinetics = Composed(Kinetics, AutoencodingPreparation)
video_folder = Composed(VideoFolder, AutoencodingPreparation)
video_shards = Composed(VideoShards, AutoencodingPreparation)
