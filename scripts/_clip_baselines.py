"""Reconstructions of clips without learning, for `scripts.clip_baselines`."""

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import scipy.fft

from perceiver_io.data.pipeline.dataset import Dataset
from perceiver_io.tasks.multimodal_autoencoding.record import SquaredError

Clip = Mapping[str, np.ndarray]

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


def mean_frames(training: Sequence[Clip]) -> tuple[np.ndarray, dict[int, np.ndarray]]:
    """The mean frame of all clips, and that of each class."""
    by_class: dict[int, list[np.ndarray]] = {}
    for clip in training:
        by_class.setdefault(int(clip["label"]), []).append(clip["image"].mean(0))
    every = np.mean([frame for frames in by_class.values() for frame in frames], axis=0)
    return every, {label: np.mean(frames, axis=0) for label, frames in by_class.items()}


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


def psnr_of(pairs: Iterator[tuple[np.ndarray, np.ndarray]]) -> float:
    """PSNR in dB of (found, wanted), over all together."""
    error = SquaredError()
    for found, wanted in pairs:
        error.add(found, wanted)
    return error.psnr()


def video_psnr(clips: Sequence[Clip], num_values: int) -> tuple[float, tuple[int, int, int]]:
    """The best PSNR of clips downsampled to so many values, and the shape that gives it."""
    size = clips[0]["image"].shape[1:3]
    found = {}
    for count in NUM_FRAMES:
        shape = frame_shape(num_values, count, size)
        if 3 * math.prod(shape) <= num_values:
            found[shape] = psnr_of(
                (np.clip(low_frequencies(clip["image"], shape), 0, 1), clip["image"])
                for clip in clips
            )
    best = max(found, key=found.__getitem__)
    return found[best], best


def audio_psnr(sounds: Sequence[np.ndarray], num_values: int) -> float:
    """PSNR of sounds [S] downsampled to so many values."""
    return psnr_of(
        (np.clip(low_frequencies(sound, (num_values,)), -1, 1), sound) for sound in sounds
    )
