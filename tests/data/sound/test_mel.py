"""Mel spectrograms against librosa and Kaldi; see scripts/make_sound_goldens.py."""

import json
from pathlib import Path

import numpy as np
import pytest

from perceiver_io.data.sound import mel

RATE = 16_000

with np.load(Path(__file__).parents[2] / "goldens" / "sound" / "mel.npz") as file:
    GOLDENS = dict(file)
SOUND = GOLDENS.pop("sound")


def cases(library):
    return [
        pytest.param(json.loads(name.removeprefix(library)), expected, id=str(expected.shape))
        for name, expected in GOLDENS.items()
        if name.startswith(library)
    ]


@pytest.mark.parametrize(("settings", "expected"), cases("librosa "))
def test_librosas_form(settings, expected):
    found = mel.mel_spectrogram(SOUND, sample_rate=RATE, **settings)
    assert found.shape == expected.shape and expected.min() < 1e-8 < 1 < expected.max()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * 1e-8)


@pytest.mark.parametrize(("settings", "expected"), cases("kaldi "))
def test_kaldis_form(settings, expected):
    found = mel.kaldi_log_mel(SOUND, sample_rate=RATE, **settings)
    assert found.shape == expected.shape and np.ptp(expected) > 15
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_a_sound_shorter_than_a_frame_has_no_frame_in_kaldis_form():
    settings = dict(frame_size=400, hop=160, num_bands=8, lowest=20, highest=8000, window="povey")
    assert mel.kaldi_log_mel(SOUND[:399], sample_rate=RATE, **settings).shape == (0, 8)
    assert mel.kaldi_log_mel(SOUND[:560], sample_rate=RATE, **settings).shape == (2, 8)
