"""Colours, noise and erased boxes."""

import numpy as np
import pytest

from perceiver_io.data.flow.files import Flow
from perceiver_io.data.flow.pair import FlowPair
from perceiver_io.data.flow.photometric import add_noise, change_colors, erase, random_box

NEUTRAL = {"brightness": 1.0, "contrast": 1.0, "saturation": 1.0, "hue": 0.0, "gamma": 1.0}
LUMA = np.array([0.299, 0.587, 0.114])


def frame(seed=0, low=60, high=160):
    return np.random.default_rng(seed).integers(low, high, (20, 30, 3), np.uint8)


def change(*frames, **changes):
    return [x.astype(float) for x in change_colors(frames, **NEUTRAL | changes)]


def test_neutral_settings_change_nothing():
    pixels = frame(low=0, high=256)
    np.testing.assert_array_equal(change(pixels)[0], pixels)


def test_brightness_scales():
    (result,) = change(frame(), brightness=1.3)
    np.testing.assert_allclose(result, frame() * 1.3, atol=1)


def test_contrast_keeps_the_mean_of_all_frames():
    dark, light = frame(0, 60, 100), frame(1, 120, 160)
    results = change(dark, light, contrast=0.5)
    mean = (np.stack([dark, light]) @ LUMA).mean()
    for result, pixels in zip(results, (dark, light), strict=True):
        np.testing.assert_allclose(result, mean + 0.5 * (pixels - mean), atol=1)


def test_contrast_is_relative_to_the_brightened_mean():
    (result,) = change(frame(), contrast=0.5, brightness=1.2)
    mean = (frame() @ LUMA).mean() * 1.2
    np.testing.assert_allclose(result, mean + 0.5 * (frame() * 1.2 - mean), atol=1)


def test_saturation_keeps_the_luma():
    grey = (frame() @ LUMA)[..., None]
    np.testing.assert_allclose(change(frame(), saturation=0)[0], np.repeat(grey, 3, -1), atol=1)
    np.testing.assert_allclose(
        change(frame(), saturation=1.4)[0], grey + 1.4 * (frame() - grey), atol=1
    )


def test_hue_permutes_the_channels_and_keeps_greys():
    (result,) = change(frame(), hue=1 / 3)
    np.testing.assert_allclose(result, np.roll(frame(), 1, axis=-1), atol=1)
    grey = np.repeat(frame()[..., :1], 3, axis=-1)
    np.testing.assert_allclose(change(grey, hue=0.17)[0], grey, atol=1)
    assert np.abs(change(frame(), hue=0.1)[0] - frame()).max() > 10


def test_gamma_is_an_exponent():
    pixels = frame(low=0, high=256)
    np.testing.assert_allclose(change(pixels, gamma=2)[0], 255 * (pixels / 255) ** 2, atol=0.5)


def test_values_are_clipped_and_do_not_wrap_around():
    white, black = np.full((2, 2, 3), 250, np.uint8), np.full((2, 2, 3), 10, np.uint8)
    results = change(white, black, contrast=2)
    np.testing.assert_array_equal(results, [np.full((2, 2, 3), 255), np.zeros((2, 2, 3))])


def test_noise_has_the_deviation_and_does_not_wrap_around():
    middle = np.full((200, 200, 3), 128, np.uint8)
    noise = add_noise(middle, 10, np.random.default_rng(0)).astype(float) - 128
    assert noise.std() == pytest.approx(10, rel=0.02)
    assert abs(noise.mean()) < 0.1
    white = add_noise(np.full_like(middle, 255), 10, np.random.default_rng(0))
    assert white.min() > 190 and (white == 255).mean() > 0.45


def moving_pair(u=4, v=-2):
    flow = np.broadcast_to(np.array([u, v], np.float32), (20, 30, 2)).copy()
    valid = np.ones((20, 30), bool)
    valid[12] = False
    flow[12] = 0
    known = np.zeros((20, 30), bool)
    known[0] = True
    return FlowPair(frame(0), frame(1), Flow(flow, valid), None, known, "moving")


def test_erased_boxes_have_the_mean_color_and_hide_what_moves_there():
    pair = moving_pair()
    result = erase(pair, [(slice(5, 14), slice(8, 15)), (slice(0, 2), slice(0, 3))])
    box = np.zeros(pair.size, bool)
    box[5:14, 8:15] = box[0:2, 0:3] = True
    mean = frame(1).mean(axis=(0, 1))
    np.testing.assert_allclose(result.second[box], np.tile(mean, (box.sum(), 1)), atol=0.51)
    np.testing.assert_array_equal(result.second[~box], pair.second[~box])
    hidden = np.zeros(pair.size, bool)
    hidden[7:16, 4:11] = True  # moved by (4, -2); nothing moves into the second box
    hidden[12] = False  # where flow is not known
    hidden[0] = True  # already occluded
    np.testing.assert_array_equal(result.occluded, hidden)
    assert result.flow is pair.flow and result.first is pair.first
    assert erase(pair._replace(occluded=None), [(slice(5), slice(5))]).occluded is None


def test_erasing_leaves_the_given_frame_alone():
    pair = moving_pair()
    erase(pair, [(slice(0, 20), slice(0, 30))])
    np.testing.assert_array_equal(pair.second, frame(1))


def test_random_boxes_have_the_given_sizes_and_cover_the_frame():
    rng = np.random.default_rng(0)
    covered, sides = np.zeros((40, 60), int), set()
    for _ in range(1000):
        box = np.zeros((40, 60), int)
        box[random_box((40, 60), (3, 6), rng)] = 1
        assert box.any()
        covered += box
        if not (box[[0, -1]].any() or box[:, [0, -1]].any()):
            sides |= {box.any(axis=0).sum(), box.any(axis=1).sum()}
    assert sides == {3, 4, 5, 6}
    assert covered[1:-1, 1:-1].min() > 0
