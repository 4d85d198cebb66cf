"""Makes tests/goldens/sound/mel.npz: spectrograms of one sound by librosa and by Kaldi.

    python -m venv librosa && librosa/bin/pip install librosa kaldi-native-fbank
    librosa/bin/python -m scripts.make_sound_goldens tests/goldens/sound/mel.npz

Each array is named after its settings, as JSON; `sound` holds half a second of a rising tone with
noise at 16 kHz, loud at first, then 80 dB quieter.
"""

import json
import sys
from pathlib import Path

import kaldi_native_fbank
import librosa
import numpy as np

RATE = 16_000
LIBROSA = (
    dict(fft_size=1024, hop=256, num_bands=80, lowest=0.0, highest=8000.0),
    dict(fft_size=512, hop=160, num_bands=40, lowest=50.0, highest=7000.0),
    dict(fft_size=2048, hop=1000, num_bands=128, lowest=20.0, highest=8000.0),
)
KALDI = (
    dict(frame_size=400, hop=160, num_bands=64, lowest=20.0, highest=8000.0, window="povey"),
    dict(frame_size=400, hop=160, num_bands=40, lowest=50.0, highest=7000.0, window="hann"),
)


def main(path: Path) -> None:
    """Writes the file."""
    sound = tone()
    arrays = {"sound": sound}
    for settings in LIBROSA:
        arrays[name("librosa", settings)] = of_librosa(sound, **settings)
    for settings in KALDI:
        arrays[name("kaldi", settings)] = of_kaldi(sound, **settings)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **arrays)


def name(library: str, settings: dict) -> str:
    """The name of an array."""
    return f"{library} {json.dumps(settings)}"


def tone() -> np.ndarray:
    """The sound [S], float32."""
    seconds = np.arange(RATE // 2) / RATE
    waves = np.sin(2 * np.pi * (100 * seconds + 7000 * seconds**2))
    noisy = 0.5 * waves + np.random.default_rng(0).normal(scale=0.05, size=len(seconds))
    return (noisy * np.where(seconds < 0.35, 1, 1e-4)).astype(np.float32)


def of_librosa(
    sound: np.ndarray, fft_size: int, hop: int, num_bands: int, **range_of
) -> np.ndarray:
    """Power [T, M]."""
    return librosa.feature.melspectrogram(
        y=sound, sr=RATE, n_fft=fft_size, hop_length=hop, n_mels=num_bands,
        fmin=range_of["lowest"], fmax=range_of["highest"],
    ).T  # fmt: skip


def of_kaldi(sound: np.ndarray, frame_size: int, hop: int, num_bands: int, **rest) -> np.ndarray:
    """Logarithms of energies [T, M]."""
    options = kaldi_native_fbank.FbankOptions()
    options.frame_opts.samp_freq = RATE
    options.frame_opts.frame_length_ms = 1000 * frame_size / RATE
    options.frame_opts.frame_shift_ms = 1000 * hop / RATE
    options.frame_opts.dither = 0
    options.frame_opts.window_type = {"povey": "povey", "hann": "hanning"}[rest["window"]]
    options.mel_opts.num_bins = num_bands
    options.mel_opts.low_freq = rest["lowest"]
    options.mel_opts.high_freq = rest["highest"]
    fbank = kaldi_native_fbank.OnlineFbank(options)
    fbank.accept_waveform(RATE, sound.tolist())
    fbank.input_finished()
    return np.stack([fbank.get_frame(index) for index in range(fbank.num_frames_ready)])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
