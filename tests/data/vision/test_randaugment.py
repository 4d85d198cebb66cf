"""RandAugment's operations against their definitions in NumPy."""

import numpy as np
import pytest
from PIL import Image

from perceiver_io.data.vision.randaugment import OPERATIONS, rand_augment


def random_image(height=30, width=40):
    pixels = np.random.default_rng(0).integers(20, 200, (height, width, 3), np.uint8)
    return Image.fromarray(pixels)


def run(name, magnitude, seed=0, image=None):
    image = random_image() if image is None else image
    return np.asarray(
        OPERATIONS[name](image, magnitude / 10, np.random.default_rng(seed)), dtype=int
    )


PIXELS = np.asarray(random_image(), dtype=int)


def test_there_are_the_sixteen_operations():
    assert len(OPERATIONS) == 16


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("magnitude", [0, 5, 10, 15])
def test_size_and_input_are_unchanged(name, magnitude):
    image = random_image()
    assert run(name, magnitude, image=image).shape == (30, 40, 3)
    np.testing.assert_array_equal(np.asarray(image), PIXELS)


@pytest.mark.parametrize(
    "name", ["rotate", "shear_x", "shear_y", "translate_x", "translate_y", "solarize_add", "cutout"]
)
def test_magnitude_zero_changes_nothing(name):
    np.testing.assert_array_equal(run(name, 0), PIXELS)


@pytest.mark.parametrize("name", ["color", "contrast", "brightness", "sharpness"])
def test_enhancements_change_nothing_at_five(name):
    np.testing.assert_array_equal(run(name, 5), PIXELS)


def test_invert():
    np.testing.assert_array_equal(run("invert", 3), 255 - PIXELS)


@pytest.mark.parametrize("magnitude, bits", [(0, 1), (5, 2), (10, 4), (20, 8)])
def test_posterize_keeps_the_upper_bits(magnitude, bits):
    step = 2 ** (8 - bits)
    np.testing.assert_array_equal(run("posterize", magnitude), PIXELS // step * step)


def test_solarize_inverts_above_the_threshold():
    np.testing.assert_array_equal(run("solarize", 5), np.where(PIXELS < 128, PIXELS, 255 - PIXELS))


def test_solarize_add_brightens_the_dark_half():
    np.testing.assert_array_equal(
        run("solarize_add", 10), np.where(PIXELS < 128, np.minimum(255, PIXELS + 110), PIXELS)
    )


def test_auto_contrast_stretches_each_channel():
    low, high = PIXELS.min(axis=(0, 1)), PIXELS.max(axis=(0, 1))
    expected = (PIXELS - low) * 255 / (high - low)
    assert abs(run("auto_contrast", 5) - expected).max() <= 1


def test_equalize_makes_the_histogram_flat():
    image = random_image(200, 260)
    result = run("equalize", 5, image=image)
    for channel, equalized in zip(np.moveaxis(np.asarray(image), -1, 0), result.T, strict=True):
        share_below = np.array([(channel < value).mean() for value in range(256)])
        assert abs(equalized.T - 255 * share_below[channel]).max() <= 4


@pytest.mark.parametrize("magnitude, factor", [(0, 0.1), (10, 1.9)])
def test_brightness_scales(magnitude, factor):
    expected = np.clip(PIXELS * factor, 0, 255)
    assert abs(run("brightness", magnitude) - expected).max() <= 1


def test_color_moves_away_from_grey():
    grey = PIXELS @ np.array([0.299, 0.587, 0.114])
    expected = np.clip(grey[..., None] + 1.9 * (PIXELS - grey[..., None]), 0, 255)
    assert abs(run("color", 10) - expected).max() <= 2


@pytest.mark.parametrize("name, axis", [("translate_x", 1), ("translate_y", 0)])
def test_translation_goes_both_ways_and_fills_with_grey(name, axis):
    image = random_image(56, 56)
    pixels = np.asarray(image, dtype=int)
    results = {run(name, 4, seed, image).tobytes() for seed in range(20)}
    shift = 10  # 56 * 100 / 224 * 0.4
    expected = set()
    for step in (shift, -shift):
        moved = np.roll(pixels, step, axis)
        gap = slice(0, step) if step > 0 else slice(step, None)
        moved[(slice(None),) * axis + (gap,)] = 128
        expected.add(moved.tobytes())
    assert results == expected


@pytest.mark.parametrize("name", ["rotate", "shear_x", "shear_y"])
def test_geometry_goes_both_ways_about_as_often(name):
    results = [run(name, 8, seed).tobytes() for seed in range(40)]
    assert len(set(results)) == 2
    assert 8 <= results.count(results[0]) <= 32


def test_magnitude_ten_rotates_by_thirty_degrees():
    image = Image.new("RGB", (101, 101))
    # A spot 40 pixels to the right of the centre.
    image.paste((255, 255, 255), (89, 49, 92, 52))
    rows, columns = np.nonzero(run("rotate", 10, image=image)[..., 0] == 255)
    angle = np.degrees(np.arctan2(rows.mean() - 50, columns.mean() - 50))
    assert abs(angle) == pytest.approx(30, abs=1.5)


def test_cutout_is_one_grey_box():
    image = Image.new("RGB", (224, 112))
    for seed in range(20):
        grey = run("cutout", 10, seed, image)[..., 0] == 128
        rows, columns = np.nonzero(grey)
        height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
        assert grey.sum() == height * width
        assert height <= 40 and width <= 80
    areas = [(run("cutout", 10, seed, image)[..., 0] == 128).sum() for seed in range(50)]
    assert max(areas) == 40 * 80


def test_layers_and_generator_decide_the_result():
    image = random_image()

    def augmented(num_layers, seed):
        rng = np.random.default_rng(seed)
        return rand_augment(image, num_layers=num_layers, magnitude=7, rng=rng).tobytes()

    assert augmented(0, 0) == image.tobytes()
    assert augmented(3, 1) == augmented(3, 1)
    assert len({augmented(2, seed) for seed in range(30)}) > 20
    one_layer = {augmented(1, seed) for seed in range(300)}
    assert len(one_layer) > 16 + 20  # each operation, directions and cutout places apart
