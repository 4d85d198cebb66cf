"""Autoencoding of video, sound and a class label (Perceiver IO, section 4.3)."""

import dataclasses
import functools
import math
from collections.abc import Mapping
from operator import or_
from typing import Annotated, Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.special
from jaxtyping import Array, Bool, Float
from matplotlib.figure import Figure

from perceiver_io.config.annotations import EACH_ONCE, Count, Limit, NonNegative, Width
from perceiver_io.data.pipeline.dataset import Dataset
from perceiver_io.data.video import AUTOENCODING
from perceiver_io.errors import UserError
from perceiver_io.losses import sum_and_count
from perceiver_io.models.perceiver.modalities import PRESENT
from perceiver_io.models.perceiver.positions import subsampled_coordinates
from perceiver_io.tasks.classes import check_classes_of_data
from perceiver_io.tasks.evaluation import BatchEvaluator, ChangedModelEvaluator, Evaluator
from perceiver_io.tasks.multimodal_autoencoding.figures import ComparedClip, compared_clips
from perceiver_io.tasks.multimodal_autoencoding.record import to_pixels
from perceiver_io.tasks.multimodal_autoencoding.streaming import streamed
from perceiver_io.tasks.task import Batch, Section, Task

Outputs = Mapping[str, Float[Array, "B ..."]]
Given = Annotated[
    tuple[Literal["audio", "image", "label"], ...], EACH_ONCE, Limit("at least one", bool)
]

_SHOWN = 3  # clips
# In dB; that of silence which is reconstructed as silence would be infinite.
_BEST_PSNR = 100.0
# What outputs of each modality are clipped to before their PSNR is taken.
_RANGES = {"image": (0.0, 1.0), "audio": (-1.0, 1.0)}
_GIVEN = ("audio", "image")


@dataclasses.dataclass(frozen=True)
class MultimodalAutoencoding(Task):
    """Compresses a clip of video, sound and class label into latents, and reconstructs it.

    Batches are those of `perceiver_io.data.video.autoencoding.AutoencodingPreparation`. The model's
    outputs are the values of `image` [B, O, 3], from 0 to 1, and of patches of `audio` [B, P, S],
    from -1 to 1, at the points of the batch, and the logits of `label` [B, num_classes].

    The loss is the mean absolute error of the video and of the sound, and the cross-entropy of the
    label in nats, with a weight for each. All three are measured whatever the model is given; only
    clips without sound have no part in what is measured of the sound.

    Attributes:
        num_classes: the number of classes.
        image_weight, audio_weight, label_weight: of the terms of the loss.
        also_given: further combinations of inputs with which each split is evaluated; by default
            video and sound are given.
        chunk_size: pixels, or patches of sound, that are decoded at a time in evaluation.
    """

    num_classes: Width
    image_weight: NonNegative = 0.03
    audio_weight: NonNegative = 1.0
    label_weight: NonNegative = 1e-4
    also_given: Annotated[tuple[Given, ...], EACH_ONCE] = ()
    chunk_size: Count = 16_384

    datasets: ClassVar[Mapping[str, str]] = AUTOENCODING

    @property
    def loss_weights(self) -> Mapping[str, float]:
        """Those of the settings."""
        return {
            "loss_image": self.image_weight,
            "loss_audio": self.audio_weight,
            "loss_label": self.label_weight,
        }

    def check_dataset(self, dataset: Dataset) -> None:
        """Raises UserError if the dataset has another number of classes."""
        check_classes_of_data(dataset, self.num_classes)

    def check_model(self, section: Section, dataset: Dataset) -> None:
        """Raises UserError if model and data divide the sound into different patches."""
        samples = dataset.batch_spec(1)["audio"][0][-1]
        wanted = section["audio"]["samples_per_patch"]
        if samples != wanted:
            raise UserError(
                f"The data's patches of sound have {samples} samples, the model's {wanted}: let "
                "config.data.samples_per_patch and config.model.audio.samples_per_patch agree."
            )

    def model_inputs(self, batch: Batch) -> dict[str, Any]:
        """What is given of each clip, and the coordinates of the points to reconstruct."""
        audio = jnp.asarray(batch["audio"])
        labels = jax.nn.one_hot(batch["label"], self.num_classes)
        present = {name: jnp.asarray(batch[f"{name}_present"]) for name in (*_GIVEN, "label")}
        return {
            "inputs": {
                "image": _pixels(batch["image"]),
                "audio": audio.reshape(len(audio), -1, 1),
                "label": labels[:, None],
                PRESENT: present,
            },
            "query": {
                "image": subsampled_coordinates(
                    jnp.asarray(batch["image_points"]), batch["image"].shape[1:4]
                ),
                "audio": subsampled_coordinates(
                    jnp.asarray(batch["audio_points"]), audio.shape[1:2]
                ),
                "label": None,
            },
        }

    def loss_masks(self, batch: Batch) -> dict[str, Bool[Array, "B ..."]]:
        """The points in real frames and their sound, and the labels, of valid clips."""
        masks = {f"loss_{name}": _covered(batch, name) for name in _GIVEN}
        return masks | {"loss_label": jnp.asarray(batch["valid"])}

    def losses(self, outputs: Outputs, batch: Batch) -> dict[str, Float[Array, "B ..."]]:
        """Absolute errors, and the cross-entropy."""
        errors = {f"loss_{name}": jnp.abs(outputs[name] - _targets(batch, name)) for name in _GIVEN}
        entropy = optax.softmax_cross_entropy_with_integer_labels(
            outputs["label"], jnp.asarray(batch["label"])
        )
        return errors | {"loss_label": entropy}

    def metrics(
        self, outputs: Outputs, batch: Batch
    ) -> dict[str, tuple[Float[Array, ""], Float[Array, ""]]]:
        """`top_1`, the share of clips whose most probable class is right."""
        is_right = outputs["label"].argmax(-1) == batch["label"]
        return {"top_1": sum_and_count(is_right, batch["valid"])}

    def predictions(self, outputs: Outputs, batch: Batch) -> dict[str, Array]:
        """The sum of the squared errors of each clip's `image` and `audio`, and their number."""
        found = {}
        for name in _GIVEN:
            covered = _covered(batch, name)
            error = jnp.clip(outputs[name], *_RANGES[name]) - _targets(batch, name)
            squares = jnp.where(covered, jnp.square(error), 0)
            found[f"{name}_squares"] = squares.sum((1, 2))
            found[f"{name}_count"] = covered.sum((1, 2))
        return found

    def report(
        self, predictions: Mapping[str, np.ndarray], dataset: Dataset
    ) -> tuple[dict[str, float], dict[str, Figure]]:
        """PSNR in dB, for a peak value of 1: `video_psnr` and `audio_psnr`.

        They are those of the mean squared error over the whole split; `..._per_clip` are means of
        the clips' own PSNR, of which each counts as 100 dB at most. `video_clips` and `audio_clips`
        are the numbers of clips that they cover; without any, the PSNR is left out.
        """
        del dataset
        metrics = {}
        for name, shown in zip(("image", "audio"), ("video", "audio"), strict=True):
            covered = predictions[f"{name}_count"] > 0
            metrics[f"{shown}_clips"] = float(covered.sum())
            if not covered.any():
                continue
            squares = predictions[f"{name}_squares"][covered].astype(np.float64)
            count = predictions[f"{name}_count"][covered]
            *each, total = psnr(np.append(squares / count, squares.sum() / count.sum()))
            metrics[f"{shown}_psnr"] = float(total)
            metrics[f"{shown}_psnr_per_clip"] = float(np.mean(each))
        return metrics, {}

    def reported(self, dataset: Dataset) -> tuple[str, ...]:
        """The names of both kinds of PSNR, and of the numbers of clips."""
        del dataset
        names = ("psnr", "psnr_per_clip", "clips")
        return tuple(f"{shown}_{name}" for shown in ("video", "audio") for name in names)

    def evaluators(self, config: Section) -> dict[str, Evaluator]:
        """For each split `SPLIT`, given video and sound, and `SPLIT_from_NAMES` for `also_given`.

        All points of each clip are decoded. Clips that have nothing of what is given are left out.
        """
        dataset, evaluation = self.build_dataset(config["data"]), config["evaluation"]
        own = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        names = {"": _GIVEN} | {f"_from_{'_'.join(given)}": given for given in self.also_given}
        return {
            f"{split}{ending}": ChangedModelEvaluator(
                BatchEvaluator(
                    WholeClips(**own, given=given), dataset, split, evaluation["batch_size"]
                ),
                functools.partial(streamed, chunk_size=self.chunk_size),
            )
            for split in evaluation["splits"]
            for ending, given in names.items()
        }


@dataclasses.dataclass(frozen=True, kw_only=True)
class WholeClips(MultimodalAutoencoding):
    """The same task for all points of each clip, given some of its modalities.

    Clips that have none of these are not valid.

    Attributes:
        given: the modalities.
    """

    given: Given

    def model_inputs(self, batch: Batch) -> dict[str, Any]:
        """Those modalities, and the coordinates of all points."""
        return super().model_inputs(self._whole(batch))

    def loss_masks(self, batch: Batch) -> dict[str, Bool[Array, "B ..."]]:
        """All of real frames and their sound, and the labels, of valid clips."""
        return super().loss_masks(self._whole(batch))

    def losses(self, outputs: Outputs, batch: Batch) -> dict[str, Float[Array, "B ..."]]:
        """Absolute errors, and the cross-entropy."""
        return super().losses(outputs, self._whole(batch))

    def metrics(
        self, outputs: Outputs, batch: Batch
    ) -> dict[str, tuple[Float[Array, ""], Float[Array, ""]]]:
        """`top_1`, the share of clips whose most probable class is right."""
        return super().metrics(outputs, self._whole(batch))

    def predictions(self, outputs: Outputs, batch: Batch) -> dict[str, Array]:
        """The sum of the squared errors of each clip's `image` and `audio`, and their number."""
        return super().predictions(outputs, self._whole(batch))

    def figure(
        self, outputs: Mapping[str, np.ndarray], batch: Batch, dataset: Dataset
    ) -> Figure | None:
        """A few valid clips, spread over the batch, with their reconstructions; None for none."""
        rows = np.flatnonzero(self._whole(batch)["valid"])
        if not rows.size:
            return None
        shown = rows[np.linspace(0, len(rows) - 1, min(len(rows), _SHOWN)).astype(int)]
        return compared_clips(
            [
                ComparedClip(
                    batch["image"][row],
                    to_pixels(np.clip(outputs["image"][row], 0, 1)).reshape(
                        batch["image"][row].shape
                    ),
                    batch["audio"][row].reshape(-1),
                    np.clip(outputs["audio"][row], -1, 1).reshape(-1),
                    dataset.class_names[batch["label"][row]],
                    scipy.special.softmax(outputs["label"][row])[batch["label"][row]],
                )
                for row in shown
            ],
            frame_rate=dataset.for_prediction()["frame_rate"],
        )

    def _whole(self, batch: Batch) -> Batch:
        """The batch with all points, the same for every clip, and with what is given."""
        places = {
            "image": math.prod(batch["image"].shape[1:4]),
            "audio": batch["audio"].shape[1],
        }
        points = {f"{name}_points": jnp.arange(count)[None] for name, count in places.items()}
        valid = jnp.asarray(batch["valid"])
        known = dict.fromkeys((*_GIVEN, "label"), jnp.ones_like(valid))
        known["audio"] = jnp.asarray(batch["has_sound"])
        given = {name: x & (name in self.given) for name, x in known.items()}
        present = {f"{name}_present": x for name, x in given.items()}
        valid &= functools.reduce(or_, given.values())
        return {**batch, **points, **present, "valid": valid}


def psnr(error: Float[np.ndarray, " N"]) -> Float[np.ndarray, " N"]:
    """PSNR in dB, at most 100, of mean squared errors, for a peak value of 1."""
    with np.errstate(divide="ignore"):
        return np.minimum(-10 * np.log10(error), _BEST_PSNR)


def _pixels(image: Array | np.ndarray) -> Float[Array, "..."]:
    """Bytes as numbers from 0 to 1."""
    return jnp.asarray(image, jnp.float32) / 255


def _targets(batch: Batch, name: str) -> Float[Array, "B O C"]:
    """The true values at a batch's points of the image, or at its patches of the audio."""
    values = jnp.asarray(batch[name])
    flat = values.reshape(len(values), -1, values.shape[-1])
    chosen = jnp.take_along_axis(flat, jnp.asarray(batch[f"{name}_points"])[..., None], axis=1)
    return _pixels(chosen) if name == "image" else chosen


def _covered(batch: Batch, name: str) -> Bool[Array, "B O C"]:
    """Whether points are in real frames, or patches of known sound begin in one, of valid clips."""
    valid = jnp.asarray(batch["valid"])
    if name == "audio":
        valid &= jnp.asarray(batch["has_sound"])
    is_real = jnp.asarray(batch["is_real"]) & valid[:, None]
    shape = batch[name].shape
    count = math.prod(shape[1:-1])
    frame = jnp.asarray(batch[f"{name}_points"]) * is_real.shape[1] // count
    covered = jnp.take_along_axis(is_real, frame, axis=1)
    return jnp.broadcast_to(covered[..., None], (*covered.shape, shape[-1]))
