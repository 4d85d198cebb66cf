"""Reconstructions of clips without learning."""

import numpy as np
import pytest

from scripts._clip_baselines import (
    audio_psnr,
    frame_shape,
    low_frequencies,
    mean_frames,
    video_psnr,
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


def test_the_best_shape_of_still_clips_has_one_frame():
    psnr, shape = video_psnr(clips(), 3 * 24)
    assert shape == (1, 4, 6) and psnr > 25


def test_all_values_of_a_sound_give_it_back():
    sounds = [clip["audio"] for clip in clips()]
    assert audio_psnr(sounds, 100) > 100 > audio_psnr(sounds, 50)


def test_mean_frames():
    first, second, third = clips()
    every, by_class = mean_frames([first, second, third])
    frames = [clip["image"].mean(0) for clip in (first, second, third)]
    np.testing.assert_allclose(every, np.mean(frames, axis=0), rtol=1e-6)
    np.testing.assert_allclose(by_class[0], (frames[0] + frames[2]) / 2, rtol=1e-6)
    np.testing.assert_allclose(by_class[1], frames[1], rtol=1e-6)
