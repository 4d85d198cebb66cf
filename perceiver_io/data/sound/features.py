"""What a model hears: the waveform, or a spectrogram in mel bands."""

import dataclasses
from typing import Annotated, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Float32

from perceiver_io.config.annotations import (
    INPUT_SIZE,
    Finite,
    Length,
    Natural,
    NonNegative,
    Positive,
    Width,
)
from perceiver_io.data.sound import mel
from perceiver_io.errors import UserError

# Below the power of the quietest sounds of 16 bits.
_LEAST_POWER = 1e-10


@runtime_checkable
class Features(Protocol):
    """Turns a stretch of sound into an array.

    Attributes:
        sample_rate: samples per second.
        num_samples: of the stretch.
    """

    sample_rate: int
    num_samples: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the result."""

    def __call__(self, samples: Float[np.ndarray, " S"]) -> Float32[np.ndarray, "..."]:
        """The features."""

    def masked(
        self, features: Float32[np.ndarray, "..."], rng: np.random.Generator
    ) -> Float32[np.ndarray, "..."]:
        """Features with parts hidden at random, in training."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Waveform:
    """The samples themselves, [S, 1], from -1 to 1.

    Attributes:
        sample_rate: samples per second.
        num_samples: S.
    """

    sample_rate: Width = 48_000
    num_samples: Annotated[Length, INPUT_SIZE] = 61_440

    @property
    def shape(self) -> tuple[int, ...]:
        """[S, 1]."""
        return self.num_samples, 1

    def __call__(self, samples: Float[np.ndarray, " S"]) -> Float32[np.ndarray, "S 1"]:
        """The samples."""
        return np.asarray(samples, np.float32)[:, None]

    def masked(
        self, features: Float32[np.ndarray, "S 1"], rng: np.random.Generator
    ) -> Float32[np.ndarray, "S 1"]:
        """Returns `features` unchanged."""
        del rng
        return features


@dataclasses.dataclass(frozen=True, kw_only=True)
class _LogMel:
    """What both forms of spectrograms have in common: [T, M, 1], normalised.

    In training, SpecAugment (1904.08779) may hide a band of time and one of frequency, each of a
    random width, with the value 0, which is the mean.

    Attributes:
        sample_rate: samples per second.
        num_samples: of the stretch of sound.
        hop: samples between frames.
        mel_bands: M.
        lowest: lower edge of the lowest band, in Hz.
        highest: upper edge of the highest band, in Hz; None: half the sample rate.
        mean: of the logarithms, which is subtracted.
        std: which they are then divided by.
        hidden_frames: greatest number of frames that are hidden at a time.
        hidden_bands: greatest number of bands that are hidden at a time.
    """

    sample_rate: Width = 48_000
    num_samples: Annotated[Length, INPUT_SIZE] = 61_440
    hop: Width = 1024
    mel_bands: Annotated[Width, INPUT_SIZE] = 80
    lowest: NonNegative = 0.0
    highest: Positive | None = None
    mean: Finite = 0.0
    std: Positive = 1.0
    hidden_frames: Natural = 0
    hidden_bands: Natural = 0

    def __post_init__(self) -> None:
        half = self.sample_rate / 2
        if not self.lowest < self._highest <= half:
            raise UserError(
                f"Mel bands from {self.lowest:g} to {self._highest:g} Hz must be in ascending "
                f"order, and at most half the sample rate, {half:g} Hz: change lowest or highest."
            )
        if self.shape[0] < 1:
            raise UserError(
                f"{self.num_samples} samples are too short for a frame: raise num_samples."
            )

    @property
    def shape(self) -> tuple[int, ...]:
        """[T, M, 1]."""
        return self._num_frames, self.mel_bands, 1

    @property
    def _num_frames(self) -> int:
        raise NotImplementedError

    @property
    def _highest(self) -> float:
        return self.sample_rate / 2 if self.highest is None else self.highest

    @property
    def _bands(self) -> dict[str, float]:
        return dict(num_bands=self.mel_bands, lowest=self.lowest, highest=self._highest)

    def _normalized(self, logarithms: Float[np.ndarray, "T M"]) -> Float32[np.ndarray, "T M 1"]:
        return ((logarithms - self.mean) / self.std).astype(np.float32)[..., None]

    def masked(
        self, features: Float32[np.ndarray, "T M 1"], rng: np.random.Generator
    ) -> Float32[np.ndarray, "T M 1"]:
        """The spectrogram with SpecAugment's bands."""
        result = features.copy()
        result[_band(len(result), self.hidden_frames, rng)] = 0
        result[:, _band(result.shape[1], self.hidden_bands, rng)] = 0
        return result


@dataclasses.dataclass(frozen=True, kw_only=True)
class MelSpectrogram(_LogMel):
    """Logarithms of the power in mel bands, in the form of librosa; see `mel.mel_spectrogram`.

    Frame t is centred at t times the hop; the one at the end of the stretch is left out, so that
    there are num_samples / hop frames, rounded up.

    Attributes:
        fft_size: samples in a frame.
    """

    fft_size: Width = 2048

    @property
    def _num_frames(self) -> int:
        return -(-self.num_samples // self.hop)

    def __call__(self, samples: Float[np.ndarray, " S"]) -> Float32[np.ndarray, "T M 1"]:
        """The spectrogram."""
        power = mel.mel_spectrogram(
            samples,
            sample_rate=self.sample_rate,
            fft_size=self.fft_size,
            hop=self.hop,
            **self._bands,
        )
        return self._normalized(np.log(power[: self._num_frames] + _LEAST_POWER))


@dataclasses.dataclass(frozen=True, kw_only=True)
class KaldiSpectrogram(_LogMel):
    """Logarithms of energies in mel bands, in Kaldi's form; see `mel.kaldi_log_mel`.

    Attributes:
        frame_size: samples in a frame; frames are within the stretch of sound.
        window: `povey`, Kaldi's own, or `hann`.
    """

    frame_size: Width = 1200
    window: mel.Window = "hann"

    @property
    def _num_frames(self) -> int:
        return 1 + (self.num_samples - self.frame_size) // self.hop

    def __call__(self, samples: Float[np.ndarray, " S"]) -> Float32[np.ndarray, "T M 1"]:
        """The spectrogram."""
        return self._normalized(
            mel.kaldi_log_mel(
                samples,
                sample_rate=self.sample_rate,
                frame_size=self.frame_size,
                hop=self.hop,
                window=self.window,
                **self._bands,
            )
        )


FEATURES = {"waveform": Waveform, "mel": MelSpectrogram, "kaldi": KaldiSpectrogram}


def _band(length: int, most: int, rng: np.random.Generator) -> slice:
    """A random stretch of up to `most` places."""
    size = int(rng.integers(min(most, length) + 1))
    start = int(rng.integers(length - size + 1))
    return slice(start, start + size)
