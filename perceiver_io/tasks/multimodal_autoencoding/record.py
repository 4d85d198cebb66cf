"""A compact record of a video and its reconstruction, collected clip by clip."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

from perceiver_io.data.video.clips import Clip
from perceiver_io.tasks.multimodal_autoencoding.reconstruction import Reconstruction

_PARTS_OF_FRAME = 4  # of the sound's envelope


class Kept(NamedTuple):
    """A frame of the video and its reconstruction."""

    index: int
    original: UInt8[np.ndarray, "H W 3"]
    reconstruction: UInt8[np.ndarray, "H W 3"]


class VideoRecord:
    """A few frames, the envelopes of the sounds, the errors and the class probabilities of a video.

    Attributes:
        kept: up to `most_kept` evenly spaced frames, including the first.
        num_frames: frames so far.
        envelopes: of the original and of the reconstructed sound, one array per clip: the least and
            greatest sample in equal parts.
        labels: the class probabilities of each clip.
    """

    def __init__(self, most_kept: int):
        self.kept: list[Kept] = []
        self.num_frames = 0
        self.envelopes: dict[str, list[np.ndarray]] = {"original": [], "reconstruction": []}
        self.labels: list[Float[np.ndarray, " K"]] = []
        self._most_kept, self._distance = most_kept, 1
        self._image_error, self._audio_error = SquaredError(), SquaredError()

    def add(self, clip: Clip, result: Reconstruction) -> None:
        """Adds the next clip, ignoring the padding after the end of the video."""
        samples_per_frame = len(clip.audio) // len(clip.frames)
        count = clip.num_frames
        image, audio = clipped(result)
        self._image_error.add(image[:count], clip.frames[:count] / np.float32(255))
        sounds = [x[: count * samples_per_frame] for x in (clip.audio, audio)]
        self._audio_error.add(*sounds)
        for parts, sound in zip(self.envelopes.values(), sounds, strict=True):
            parts.append(envelope(sound.reshape(count, samples_per_frame)))
        self.labels.append(result.label)
        for original, ours in zip(clip.frames[:count], to_pixels(image[:count]), strict=True):
            self._keep(original, ours)

    def psnr(self) -> dict[str, float]:
        """PSNR of `image` and `audio` in dB."""
        return {"image": self._image_error.psnr(), "audio": self._audio_error.psnr()}

    def _keep(self, original: np.ndarray, reconstruction: np.ndarray) -> None:
        if self.num_frames % self._distance == 0:
            self.kept.append(Kept(self.num_frames, original.copy(), reconstruction.copy()))
        self.num_frames += 1
        if len(self.kept) > self._most_kept:
            self.kept = self.kept[::2]
            self._distance *= 2


class SquaredError:
    """Accumulates the squared error and PSNR of two arrays, chunk by chunk."""

    def __init__(self):
        self._total, self._count = 0.0, 0

    def add(self, found: np.ndarray, wanted: np.ndarray) -> None:
        """Adds a chunk of both arrays, of the same shape."""
        self._total += float(np.square(found - wanted, dtype=np.float64).sum())
        self._count += found.size

    def psnr(self) -> float:
        """PSNR in dB, for a peak value of 1."""
        mean = self._total / self._count
        return float("inf") if mean == 0 else -10 * float(np.log10(mean))


def clipped(
    result: Reconstruction,
) -> tuple[Float[np.ndarray, "T H W 3"], Float[np.ndarray, "S 1"]]:
    """Frames and sound, clipped to the range of files."""
    return np.clip(result.image, 0, 1), np.clip(result.audio, -1, 1)


def to_pixels(image: Float[np.ndarray, "T H W 3"]) -> UInt8[np.ndarray, "T H W 3"]:
    """Converts frames from 0 to 1 to bytes."""
    return np.rint(255 * image).astype(np.uint8)


def envelope(sound: Float[np.ndarray, "T s"]) -> Float[np.ndarray, "P 2"]:
    """Least and greatest sample in up to four parts of each row, concatenated over rows."""
    parts = np.array_split(sound, min(_PARTS_OF_FRAME, sound.shape[1]), axis=1)
    limits = np.stack([(part.min(1), part.max(1)) for part in parts])  # part, which, row
    return limits.transpose(2, 0, 1).reshape(-1, 2)
