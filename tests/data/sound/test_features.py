"""What a model hears: shapes, normalisation, SpecAugment."""

import numpy as np
import pytest

from perceiver_io.data.sound import mel
from perceiver_io.data.sound.features import KaldiSpectrogram, MelSpectrogram, Waveform
from perceiver_io.errors import UserError

SOUND = np.random.default_rng(0).uniform(-1, 1, 1600).astype(np.float32)
COMMON = dict(sample_rate=16_000, num_samples=1600, mel_bands=20)


def test_waveform():
    features = Waveform(sample_rate=16_000, num_samples=1600)
    np.testing.assert_array_equal(features(SOUND), SOUND[:, None])
    assert features(SOUND).shape == features.shape
    assert features.masked(SOUND, np.random.default_rng(0)) is SOUND


@pytest.mark.parametrize(("hop", "frames"), [(160, 10), (300, 6)])
def test_mel_spectrogram_is_normalised(hop, frames):
    """The frame at the end of the sound is left out."""
    features = MelSpectrogram(**COMMON, hop=hop, fft_size=512, mean=-3.0, std=2.0)
    power = mel.mel_spectrogram(
        SOUND, sample_rate=16_000, fft_size=512, hop=hop, num_bands=20, lowest=0, highest=8000
    )
    expected = (np.log(power[:frames] + 1e-10) + 3) / 2
    found = features(SOUND)
    assert found.shape == features.shape == (frames, 20, 1) and found.dtype == np.float32
    np.testing.assert_allclose(found[..., 0], expected, rtol=1e-6)


def test_kaldi_spectrogram():
    features = KaldiSpectrogram(**COMMON, hop=160, frame_size=400, lowest=50.0, std=2.0)
    found = features(SOUND)
    assert found.shape == features.shape == (8, 20, 1)
    expected = mel.kaldi_log_mel(
        SOUND, sample_rate=16_000, frame_size=400, hop=160, num_bands=20, lowest=50, highest=8000,
        window="hann",
    )  # fmt: skip
    np.testing.assert_allclose(found[..., 0], expected / 2, rtol=1e-5)


def test_spec_augment_hides_a_band_of_time_and_one_of_frequency():
    features = MelSpectrogram(**COMMON, hop=160, hidden_frames=4, hidden_bands=6)
    ones, rng = np.ones(features.shape, np.float32), np.random.default_rng(0)
    frames, bands = set(), set()
    for _ in range(200):
        hidden = features.masked(ones, rng)[..., 0] == 0
        in_time, in_frequency = hidden.all(1), hidden.all(0)
        assert (hidden == in_time[:, None] | in_frequency).all()
        for places in (in_time, in_frequency):
            assert (np.diff(np.flatnonzero(places)) == 1).all()
        frames.add(in_time.sum())
        bands.add(in_frequency.sum())
    assert frames == set(range(5)) and bands == set(range(7))
    assert ones.all(), "unchanged"


def test_wrong_settings():
    with pytest.raises(UserError, match="Mel bands from 0 to 9000 Hz .* at most half .* 8000 Hz"):
        MelSpectrogram(**COMMON, highest=9000.0)
    with pytest.raises(UserError, match="1600 samples are too short for a frame"):
        KaldiSpectrogram(**COMMON, frame_size=1800, hop=160)
