"""Reconstructions of clips without learning."""

import functools

import numpy as np
import pytest

from scripts._clip_baselines import (
    Guess,
    frame_shape,
    frame_shapes,
    low_audio,
    low_frequencies,
    low_video,
    mean_frames,
    psnrs,
)


def clips():
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:8, :12]
    frames = []
    for _ in range(3):
        waves = [0.5 + 0.2 * np.cos(np.pi * (k + 0.5) * rng.integers(2) / 8) for k in (x, y, x)]
        frames.append(np.stack(waves, -1))
    return [
        {
            "image": np.repeat(frame[None], 4, 0).astype(np.float32),
            "audio": rng.uniform(-1, 1, 100).astype(np.float32),
            "label": np.int32(index % 2),
        }
        for index, frame in enumerate(frames)
    ]


def test_what_has_only_low_frequencies_is_kept():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4, 6, 8, 3))
    np.testing.assert_allclose(low_frequencies(x, (4, 6, 8)), x, atol=1e-12)
    mean = np.broadcast_to(x.mean((0, 1, 2)), x.shape)
    np.testing.assert_allclose(low_frequencies(x, (1, 1, 1)), mean, atol=1e-12)
    low = low_frequencies(x, (2, 3, 4))
    np.testing.assert_allclose(low_frequencies(low, (2, 3, 4)), low, atol=1e-12)


@pytest.mark.parametrize(
    "values,frames,shape",
    [(3 * 24, 1, (1, 4, 6)), (3 * 24 * 4, 4, (4, 4, 6)), (10**6, 2, (2, 8, 12))],
)
def test_shapes_of_downsampled_clips(values, frames, shape):
    assert frame_shape(values, frames, (8, 12)) == shape


def test_psnr_of_downsampled_clips():
    """Of still clips one frame says everything, and all values of a sound give it back."""
    assert frame_shapes(3 * 24, (8, 12)) == [(1, 4, 6), (2, 2, 4), (4, 2, 3), (8, 1, 2), (16, 1, 1)]
    every = clips()
    without = every[0] | {"audio": np.zeros(0, np.float32)}
    guesses = {
        "one": Guess("image", functools.partial(low_video, (1, 4, 6))),
        "two": Guess("image", functools.partial(low_video, (2, 2, 4))),
        "all": Guess("audio", functools.partial(low_audio, 100)),
        "half": Guess("audio", functools.partial(low_audio, 50)),
    }
    found = psnrs(iter([*every, without]), guesses)
    assert found["one"] > 25 and found["one"] > found["two"]
    assert found["all"] > 100 > found["half"]
    errors = [low_audio(50, clip) - clip["audio"] for clip in every]
    assert found["half"] == pytest.approx(-10 * np.log10(np.square(errors).mean()), abs=1e-4)
    assert set(psnrs([without], guesses)) == {"one", "two"}


def test_mean_frames():
    first, second, third = clips()
    every, by_class = mean_frames(iter([first, second, third]))
    frames = [clip["image"].mean(0) for clip in (first, second, third)]
    np.testing.assert_allclose(every, np.mean(frames, axis=0), rtol=1e-6)
    np.testing.assert_allclose(by_class[0], (frames[0] + frames[2]) / 2, rtol=1e-6)
    np.testing.assert_allclose(by_class[1], frames[1], rtol=1e-6)
