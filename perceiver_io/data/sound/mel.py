"""Mel spectrograms, as librosa and as Kaldi define them."""

import functools
from typing import Literal

import numpy as np
import scipy.fft
from jaxtyping import Float

Window = Literal["povey", "hann"]

# Kaldi's least energy: the spacing of float32 numbers at 1.
_KALDI_FLOOR = float(np.finfo(np.float32).eps)
_PREEMPHASIS = 0.97


def mel_spectrogram(
    samples: Float[np.ndarray, " S"],
    *,
    sample_rate: int,
    fft_size: int,
    hop: int,
    num_bands: int,
    lowest: float,
    highest: float,
) -> Float[np.ndarray, "T M"]:
    """Power in mel bands, as `librosa.feature.melspectrogram` with its defaults.

    Frames are centred at multiples of the hop, with silence around the sound; Slaney's mel scale,
    and triangles of area 1.

    Args:
        samples: the sound; T = 1 + S // hop.
        sample_rate: samples per second.
        fft_size: samples in a frame, which has a Hann window.
        hop: samples between frames.
        num_bands: M.
        lowest: lower edge of the lowest band, in Hz.
        highest: upper edge of the highest band, in Hz.
    """
    padded = np.pad(samples.astype(np.float64), fft_size // 2)
    window = _hann(fft_size, periodic=True)
    power = _power(_frames(padded, fft_size, hop) * window, fft_size)
    return power @ slaney_bands(sample_rate, fft_size, num_bands, lowest, highest)


def kaldi_log_mel(
    samples: Float[np.ndarray, " S"],
    *,
    sample_rate: int,
    frame_size: int,
    hop: int,
    num_bands: int,
    lowest: float,
    highest: float,
    window: Window,
) -> Float[np.ndarray, "T M"]:
    """Natural logarithms of energies in mel bands, as Kaldi's `compute-fbank-feats`.

    Without dither. Frames are within the sound; each is freed of its mean and pre-emphasised; HTK's
    mel scale, and triangles of height 1 on that scale.

    Args:
        samples: the sound; T = 1 + (S - frame_size) // hop, or 0.
        sample_rate: samples per second.
        frame_size: samples in a frame, filled up to a power of two.
        hop: samples between frames.
        num_bands: M.
        lowest: lower edge of the lowest band, in Hz.
        highest: upper edge of the highest band, in Hz.
        window: Kaldi's own, or Hann's.
    """
    frames = _frames(samples.astype(np.float64), frame_size, hop)
    frames = frames - frames.mean(-1, keepdims=True)
    before = np.concatenate([frames[:, :1], frames[:, :-1]], axis=-1)
    hann = _hann(frame_size, periodic=False)
    frames = (frames - _PREEMPHASIS * before) * (hann**0.85 if window == "povey" else hann)
    fft_size = 1 << (frame_size - 1).bit_length()
    bands = htk_bands(sample_rate, fft_size, num_bands, lowest, highest)
    return np.log(np.maximum(_power(frames, fft_size) @ bands, _KALDI_FLOOR))


@functools.lru_cache
def slaney_bands(
    sample_rate: int, fft_size: int, num_bands: int, lowest: float, highest: float
) -> Float[np.ndarray, "F M"]:
    """Weights of frequencies in bands that are evenly spaced on Slaney's mel scale, each of area 1.

    The scale is linear up to 1000 Hz, where it is at 15, and logarithmic above.
    """
    step = np.log(6.4) / 27

    def to_mel(hertz: float) -> float:
        return 3 * hertz / 200 if hertz < 1000 else 15 + np.log(hertz / 1000) / step

    mels = np.linspace(to_mel(lowest), to_mel(highest), num_bands + 2)
    edges = np.where(mels < 15, 200 * mels / 3, 1000 * np.exp(step * (mels - 15)))
    frequencies = np.linspace(0, sample_rate / 2, fft_size // 2 + 1)
    return _triangles(frequencies, edges) * 2 / (edges[2:] - edges[:-2])


@functools.lru_cache
def htk_bands(
    sample_rate: int, fft_size: int, num_bands: int, lowest: float, highest: float
) -> Float[np.ndarray, "F M"]:
    """Weights of frequencies in bands that are triangles on HTK's mel scale, each of height 1.

    The highest frequency, half the sample rate, is in no band.
    """
    frequencies = np.linspace(0, sample_rate / 2, fft_size // 2 + 1)
    mels, low, high = (1127 * np.log1p(x / 700) for x in (frequencies, lowest, highest))
    weights = _triangles(mels, np.linspace(low, high, num_bands + 2))
    weights[-1] = 0
    return weights


def _triangles(
    x: Float[np.ndarray, " F"], edges: Float[np.ndarray, " N"]
) -> Float[np.ndarray, "F M"]:
    """Triangles between each three consecutive edges, of height 1 at the middle one."""
    low, middle, high = edges[:-2], edges[1:-1], edges[2:]
    x = x[:, None]
    return np.maximum(0, np.minimum((x - low) / (middle - low), (high - x) / (high - middle)))


def _hann(size: int, *, periodic: bool) -> Float[np.ndarray, " N"]:
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / (size - (not periodic)))


def _frames(samples: Float[np.ndarray, " S"], size: int, hop: int) -> Float[np.ndarray, "T N"]:
    if len(samples) < size:
        return np.empty((0, size))
    return np.lib.stride_tricks.sliding_window_view(samples, size)[::hop]


def _power(frames: Float[np.ndarray, "T N"], fft_size: int) -> Float[np.ndarray, "T F"]:
    return np.abs(scipy.fft.rfft(frames, fft_size)) ** 2
