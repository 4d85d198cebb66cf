"""Reconstructions of clips without learning, for `scripts.clip_baselines`."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple, TypeVar

import numpy as np
import scipy.fft

from perceiver_io.data.pipeline.dataset import Dataset
from perceiver_io.tasks.multimodal_autoencoding.record import SquaredError

Clip = Mapping[str, np.ndarray]
Name = TypeVar("Name")


class Guess(NamedTuple):
    """A reconstruction of the `image` or the `audio` of any clip."""

    modality: str
    function: Callable[[Clip], np.ndarray]


# Numbers of frames that downsampled clips may keep.
NUM_FRAMES = (1, 2, 4, 8, 16)


def clips(dataset: Dataset, split: str) -> Iterator[Clip]:
    """The split's clips as they are evaluated: `image` from 0 to 1, `audio` [S], `label`.

    A clip without sound has no samples.
    """
    rng = np.random.default_rng(0)
    for raw in dataset.examples(split):
        example = dataset.preparation.evaluation_example(raw, rng)
        count = int(example["is_real"].sum())
        image, audio = example["image"][:count], example["audio"].reshape(-1)
        samples = count * len(audio) // len(example["image"]) if example["has_sound"] else 0
        yield {
            "image": image / np.float32(255),
            "audio": audio[:samples],
            "label": example["label"],
        }


def mean_frames(training: Iterable[Clip]) -> tuple[np.ndarray, dict[int, np.ndarray]]:
    """The mean frame of all clips, and that of each class; one clip at a time is in memory."""
    sums: dict[int, np.ndarray] = {}
    counts: Counter[int] = Counter()
    for clip in training:
        label = int(clip["label"])
        sums[label] = sums.get(label, 0) + clip["image"].mean(0, dtype=np.float64)
        counts[label] += 1
    every = sum(sums.values()) / counts.total()
    return every, {label: total / counts[label] for label, total in sums.items()}


def low_frequencies(x: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """`x` from the lowest frequencies of its first axes alone, as many as `shape` says.

    Among all ways of downsampling to `shape`, the discrete cosine transform loses little.
    """
    axes = tuple(range(len(shape)))
    kept = tuple(slice(size) for size in shape)
    coefficients = scipy.fft.dctn(x, axes=axes, norm="ortho")
    low = np.zeros_like(coefficients)
    low[kept] = coefficients[kept]
    return scipy.fft.idctn(low, axes=axes, norm="ortho")


def frame_shape(num_values: int, num_frames: int, size: tuple[int, int]) -> tuple[int, int, int]:
    """The largest shape (frames, height, width), in proportion, with so many values in RGB."""
    height, width = size
    scale = math.sqrt(num_values / (3 * num_frames * height * width))
    sides = (min(max(int(scale * side), 1), side) for side in size)
    return (num_frames, *sides)


def frame_shapes(num_values: int, size: tuple[int, int]) -> list[tuple[int, int, int]]:
    """The `frame_shape` for each number of frames for which there are enough values."""
    shapes = (frame_shape(num_values, count, size) for count in NUM_FRAMES)
    return [shape for shape in shapes if 3 * math.prod(shape) <= num_values]


def low_video(shape: tuple[int, int, int], clip: Clip) -> np.ndarray:
    """The frames of a clip downsampled to a shape."""
    return np.clip(low_frequencies(clip["image"], shape), 0, 1)


def low_audio(num_values: int, clip: Clip) -> np.ndarray:
    """The sound of a clip, if it has any, downsampled to so many values."""
    if not clip["audio"].size:
        return clip["audio"]
    return np.clip(low_frequencies(clip["audio"], (num_values,)), -1, 1)


def psnrs(clips: Iterable[Clip], guesses: Mapping[Name, Guess]) -> dict[Name, float]:
    """PSNR in dB of guesses, each over all clips together; one clip at a time is in memory.

    A guess of which there is nothing, since no clip has sound, is left out.
    """
    errors = {name: SquaredError() for name in guesses}
    for clip in clips:
        for name, (modality, function) in guesses.items():
            errors[name].add(function(clip), clip[modality])
    return {name: error.psnr() for name, error in errors.items() if error.count}
