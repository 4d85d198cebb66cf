"""A compact record of a video and its reconstruction, collected clip by clip."""

from typing import Generic, NamedTuple, TypeVar

import numpy as np
from jaxtyping import Float, UInt8

from perceiver_io.data.video.clips import Clip
from perceiver_io.tasks.multimodal_autoencoding.figures import spectrogram
from perceiver_io.tasks.multimodal_autoencoding.reconstruction import Reconstruction

Item = TypeVar("Item")

_PARTS_OF_FRAME = 4  # of the sound's envelope
_MOST_SPECTRA = 2000  # more than a figure has columns


class Kept(NamedTuple):
    """A frame of the video and its reconstruction."""

    index: int
    original: UInt8[np.ndarray, "H W 3"]
    reconstruction: UInt8[np.ndarray, "H W 3"]


class EvenlySpaced(Generic[Item]):
    """Evenly spaced items of a stream, including the first.

    Attributes:
        kept: up to `most` of them.
        count: the number of all so far.
    """

    def __init__(self, most: int):
        self.kept: list[Item] = []
        self.count = 0
        self._most, self._distance = most, 1

    def add(self, item: Item) -> None:
        """Adds the next item."""
        if self.count % self._distance == 0:
            self.kept.append(item)
        self.count += 1
        if len(self.kept) > self._most:
            self.kept = self.kept[::2]
            self._distance *= 2


class SoundRecord:
    """What a figure shows of a sound.

    Attributes:
        envelopes: one array per clip: the least and greatest sample in equal parts.
        spectra: columns of the spectrogram in dB.
    """

    def __init__(self, sample_rate: float):
        self.envelopes: list[Float[np.ndarray, "P 2"]] = []
        self.spectra = EvenlySpaced[Float[np.ndarray, " F"]](_MOST_SPECTRA)
        self.sample_rate = sample_rate

    def add(self, sound: Float[np.ndarray, "T s"]) -> None:
        """Adds the sound of a clip, in equal parts for its frames."""
        self.envelopes.append(envelope(sound))
        for spectrum in spectrogram(sound.reshape(-1), self.sample_rate):
            self.spectra.add(spectrum)


class VideoRecord:
    """A few frames, what to show of the sounds, the errors and class probabilities of a video.

    Attributes:
        frames: evenly spaced ones.
        frame_rate: in frames per second.
        sounds: the original and the reconstructed one, by name.
        labels: the class probabilities of each clip.
    """

    def __init__(self, most_kept: int, frame_rate: float, samples_per_frame: int):
        self.frames = EvenlySpaced[Kept](most_kept)
        self.frame_rate = frame_rate
        names = ("original", "reconstruction")
        self.sounds = {name: SoundRecord(frame_rate * samples_per_frame) for name in names}
        self.labels: list[Float[np.ndarray, " K"]] = []
        self._samples_per_frame = samples_per_frame
        self._image_error, self._audio_error = SquaredError(), SquaredError()

    @property
    def num_frames(self) -> int:
        """Frames so far."""
        return self.frames.count

    @property
    def seconds(self) -> float:
        """Their duration."""
        return self.num_frames / self.frame_rate

    def add(self, clip: Clip, result: Reconstruction) -> None:
        """Adds the next clip, ignoring the padding after the end of the video."""
        count = clip.num_frames
        image, audio = clipped(result)
        self._image_error.add(image[:count], clip.frames[:count] / np.float32(255))
        sounds = [x[: count * self._samples_per_frame] for x in (clip.audio, audio)]
        if clip.has_sound:
            self._audio_error.add(*sounds)
        for record, sound in zip(self.sounds.values(), sounds, strict=True):
            record.add(sound.reshape(count, -1))
        self.labels.append(result.label)
        for original, ours in zip(clip.frames[:count], to_pixels(image[:count]), strict=True):
            # Copies, so that the rest of the clip is not kept in memory.
            self.frames.add(Kept(self.num_frames, original.copy(), ours.copy()))

    def psnr(self) -> dict[str, float]:
        """PSNR of `image` and `audio` in dB, of what the video has of them."""
        errors = {"image": self._image_error, "audio": self._audio_error}
        return {name: error.psnr() for name, error in errors.items() if error.count}


class SquaredError:
    """Accumulates the squared error and PSNR of two arrays, chunk by chunk.

    Attributes:
        count: of values so far.
    """

    def __init__(self):
        self._total, self.count = 0.0, 0

    def add(self, found: np.ndarray, wanted: np.ndarray) -> None:
        """Adds a chunk of both arrays, of the same shape."""
        self._total += float(np.square(found - wanted, dtype=np.float64).sum())
        self.count += found.size

    def psnr(self) -> float:
        """PSNR in dB, for a peak value of 1; there must have been a value."""
        mean = self._total / self.count
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
