"""Augmentation as a whole: each part alone, all together, and the limits of its settings."""

import numpy as np
import pytest

from perceiver_io.config.construct import construct
from perceiver_io.data.flow.augmentation import FlowAugmentation
from perceiver_io.data.flow.files import Flow
from perceiver_io.data.flow.geometry import affine, rotation
from perceiver_io.data.flow.pair import FlowPair, cut
from perceiver_io.errors import UserError
from tests.helpers.flow_scenes import pixels, round_trips, scene, warping_errors

NOTHING = {
    "spatial_probability": 0.0,
    "log2_scale": (0.0, 0.0),
    "log2_stretch": 0.0,
    "rotation": 0.0,
    "relative_log2_scale": 0.0,
    "relative_rotation": 0.0,
    "relative_translation": 0.0,
    "horizontal_flip": 0.0,
    "vertical_flip": 0.0,
    "brightness": 0.0,
    "contrast": 0.0,
    "saturation": 0.0,
    "hue": 0.0,
    "log2_gamma": 0.0,
    "asymmetric_probability": 0.0,
    "noise": 0.0,
    "eraser_probability": 0.0,
    "eraser_boxes": 0,
    "eraser_sides": (1, 1),
}
GEOMETRY = {
    "scale": {"log2_scale": (-0.2, 0.8)},
    "stretch": {"log2_stretch": 0.3},
    "rotation": {"rotation": 20.0},
    "relative scale": {"relative_log2_scale": 0.1},
    "relative rotation": {"relative_rotation": 5.0},
    "relative translation": {"relative_translation": 0.05},
    "horizontal flip": {"horizontal_flip": 1.0},
    "vertical flip": {"vertical_flip": 1.0},
}
EVERYTHING = {k: v for part in GEOMETRY.values() for k, v in part.items()}
COLORS = {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.15, "log2_gamma": 0.5}
ERASER = {"eraser_probability": 1.0, "eraser_boxes": 3, "eraser_sides": (10, 25)}
FULL = EVERYTHING | COLORS | ERASER | {"asymmetric_probability": 0.5, "noise": 0.05}

SIZE = (64, 96)
MOTION = affine(1.03 * rotation(4), np.array([5.5, -4.25]))


def augment(pair, size=SIZE, seed=0, **settings):
    settings = NOTHING | {"spatial_probability": 1.0} | settings
    return FlowAugmentation(**settings)(pair, size, np.random.default_rng(seed))


def arrays(pair):
    flows = [part for flow in (pair.flow, pair.backward) if flow for part in flow]
    return [pair.first, pair.second, *flows, pair.occluded]


def assert_same(one, other):
    for a, b in zip(arrays(one), arrays(other), strict=True):
        np.testing.assert_array_equal(a, b)
        assert a.dtype == b.dtype


@pytest.mark.parametrize("probability", [0.0, 1.0])
def test_without_any_change_a_random_crop_is_taken(probability):
    pair = scene(MOTION)
    corners = set()
    for seed in range(8):
        part = augment(pair, seed=seed, spatial_probability=probability)
        top, left = next(
            (y, x)
            for y in range(120 - 64 + 1)
            for x in range(160 - 96 + 1)
            if (pair.flow.flow[y, x] == part.flow.flow[0, 0]).all()
        )
        expected = cut(pair, (top, left), SIZE)
        # Only points that leave the part become occluded.
        assert (part.occluded >= expected.occluded).all()
        assert_same(part._replace(occluded=expected.occluded), expected)
        corners.add((top, left))
    assert len(corners) > 5


@pytest.mark.parametrize("settings", [*GEOMETRY.values(), EVERYTHING], ids=[*GEOMETRY, "all"])
def test_flow_stays_the_motion_between_the_frames(settings):
    plain = augment(scene(MOTION))
    for seed in range(4):
        part = augment(scene(MOTION), seed=seed, **settings)
        assert part.size == SIZE and part.first.dtype == part.second.dtype == np.uint8
        errors = warping_errors(part)
        assert errors.mean() < 1.5 and np.quantile(errors, 0.99) < 6
        assert round_trips(part).max() < 2e-3
        assert part.flow.valid.all()
        assert_affine(part.flow)
        assert np.abs(part.flow.flow - plain.flow.flow).max() > 0.1


def assert_affine(flow):
    """An affine motion seen through affine maps is affine."""
    places = np.concatenate([pixels(*SIZE), np.ones((*SIZE, 1))], axis=-1).reshape(-1, 3)
    fit, *_ = np.linalg.lstsq(places, flow.flow.reshape(-1, 2), rcond=None)
    np.testing.assert_allclose(places @ fit, flow.flow.reshape(-1, 2), atol=1e-3)


@pytest.mark.parametrize("name, axis", [("horizontal_flip", 1), ("vertical_flip", 0)])
def test_flips_mirror_the_pair_and_undo_themselves(name, axis):
    pair = scene(MOTION)
    once = augment(pair, pair.size, **{name: 1.0})
    np.testing.assert_array_equal(once.first, np.flip(pair.first, axis))
    sign = np.array([-1, 1] if axis else [1, -1])
    np.testing.assert_array_equal(once.flow.flow, np.flip(pair.flow.flow, axis) * sign)
    assert_same(augment(once, pair.size, **{name: 1.0}), pair)


def test_frequency_of_flips():
    pair = scene(MOTION, 16, 24)
    flipped = [
        (augment(pair, pair.size, seed, horizontal_flip=0.25).first != pair.first).any()
        for seed in range(400)
    ]
    assert 70 <= sum(flipped) <= 130


def test_frequency_of_spatial_changes():
    pair = scene(affine(np.eye(2), np.array([1.0, 0])), 40, 40)
    settings = {"spatial_probability": 0.3, "log2_scale": (0.5, 0.5)}
    scales = np.array([augment(pair, (16, 24), s, **settings).flow.flow.max() for s in range(300)])
    np.testing.assert_allclose(np.unique(scales), [1, 2**0.5], rtol=1e-5)
    assert 65 <= (scales > 1).sum() <= 115


def test_scales_and_stretches_cover_their_ranges():
    pair = scene(affine(np.eye(2), np.array([1.0, 1.0])), 40, 60)
    settings = {"log2_scale": (-0.1, 0.5), "log2_stretch": 0.2}
    flows = np.array([augment(pair, (16, 24), s, **settings).flow.flow[0, 0] for s in range(300)])
    logs = np.log2(flows)
    assert -0.3 <= logs.min() < -0.15 and 0.55 < logs.max() <= 0.7001
    stretches = logs[:, 0] - logs[:, 1]
    assert -0.4 <= stretches.min() < -0.3 and 0.3 < stretches.max() <= 0.4


def test_the_second_frame_is_shifted_by_a_fraction_of_its_size():
    shifts = np.array(
        [
            augment(scene(np.eye(3)), seed=s, relative_translation=0.1).flow.flow[0, 0]
            for s in range(60)
        ]
    )
    lengths = np.abs(shifts).max(axis=0)
    assert (lengths <= (9.601, 6.401)).all() and (lengths > (8.8, 5.8)).all()
    assert (shifts.min(axis=0) < -5).all() and (shifts.max(axis=0) > 5).all()


def test_small_frames_are_enlarged_up_to_the_greatest_scale():
    pair = scene(MOTION, 40, 60)
    part = augment(pair, log2_scale=(-0.5, 0.7), spatial_probability=0.5)
    assert part.flow.valid.all()
    np.testing.assert_allclose(part.first[0, 0], pair.first[0, 0], atol=1)
    with pytest.raises(UserError, match=r"waves has 40x60 .* scales up to 1.41 it needs 46x69:"):
        augment(pair, log2_scale=(-0.5, 0.5))
    # There is no scaling at all.
    with pytest.raises(UserError, match=r"scales up to 1 it needs 64x96:.*image_size"):
        augment(pair, log2_scale=(-0.5, 0.7), spatial_probability=0.0)


def test_sparse_flow_stays_sparse():
    pair = scene(MOTION)
    valid = np.random.default_rng(0).random(pair.size) < 0.3
    flow = Flow(np.where(valid[..., None], pair.flow.flow, np.float32(0)), valid)
    for seed in range(3):
        part = augment(pair._replace(flow=flow, backward=None, occluded=None), seed=seed, **FULL)
        assert 0.2 < part.flow.valid.mean() < 0.4
        assert part.backward is None and part.occluded is None
        dense = augment(pair._replace(backward=None), seed=seed, **FULL)
        difference = np.abs(part.flow.flow - dense.flow.flow)[part.flow.valid]
        assert difference.max() < 0.15


def test_symmetric_colors_keep_equal_frames_equal_and_asymmetric_ones_do_not():
    pair = scene(np.eye(3))
    for seed in range(5):
        same = augment(pair, seed=seed, **COLORS)
        np.testing.assert_array_equal(same.first, same.second)
        assert (same.first != augment(pair, seed=seed).first).mean() > 0.5
        other = augment(pair, seed=seed, **COLORS, asymmetric_probability=1.0)
        assert (other.first != other.second).mean() > 0.5


@pytest.mark.parametrize("name", COLORS)
def test_every_colour_change_is_visible_and_keeps_the_flow(name):
    pair = scene(MOTION)
    part, plain = augment(pair, pair.size, **{name: COLORS[name]}), augment(pair, pair.size)
    assert (part.first != plain.first).any() and (part.second != plain.second).any()
    np.testing.assert_array_equal(part.flow.flow, plain.flow.flow)


def test_noise_differs_in_the_two_frames():
    part = augment(scene(np.eye(3)), noise=0.05)
    difference = part.first.astype(float) - part.second
    assert 1 < difference.std() < 255 * 0.05 * 2**0.5 * 1.1


def test_the_eraser_changes_the_second_frame_and_never_the_flow():
    pair = scene(MOTION)
    erased, plain = augment(pair, pair.size, **ERASER), augment(pair, pair.size)
    np.testing.assert_array_equal(erased.first, plain.first)
    np.testing.assert_array_equal(erased.flow.flow, plain.flow.flow)
    np.testing.assert_array_equal(erased.flow.valid, plain.flow.valid)
    assert 100 <= (erased.second != plain.second).any(axis=-1).sum() <= 3 * 25 * 25
    assert (erased.occluded >= plain.occluded).all() and (erased.occluded > plain.occluded).any()


def test_up_to_the_greatest_number_of_boxes_is_drawn():
    grey = np.full((200, 300, 3), 100, np.uint8)
    grey[::2] = 50
    still = Flow(np.zeros((200, 300, 2), np.float32), np.ones((200, 300), bool))
    pair = FlowPair(grey, grey, still, None, None, "stripes")
    one_box = {"eraser_probability": 0.5, "eraser_boxes": 3, "eraser_sides": (10, 10)}
    areas = [
        (augment(pair, (200, 300), seed, **one_box).second != grey).any(axis=-1).sum()
        for seed in range(200)
    ]
    assert 70 < sum(area == 0 for area in areas) < 130
    assert max(areas) == 300  # boxes of 100 pixels
    no_box = augment(pair, (200, 300), **one_box | {"eraser_boxes": 0})
    np.testing.assert_array_equal(no_box.second, grey)


def test_results_depend_on_the_generator_only():
    pair = scene(MOTION)
    before = [x.copy() for x in arrays(pair)]
    assert_same(augment(pair, seed=3, **FULL), augment(pair, seed=3, **FULL))
    assert (augment(pair, seed=3, **FULL).first != augment(pair, seed=4, **FULL).first).any()
    for array, copy in zip(arrays(pair), before, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_weakened_augmentation():
    full = FlowAugmentation(**NOTHING | FULL | {"spatial_probability": 1.0})
    assert full.weakened(1.0) == full
    half = full.weakened(0.5)
    assert half.rotation == 10 and half.hue == 0.075 and half.eraser_probability == 0.5
    for name in ("log2_scale", "horizontal_flip", "vertical_flip", "eraser_boxes", "eraser_sides"):
        assert getattr(half, name) == FULL[name]
    weakest = full.weakened(0.0)
    flips = {name: FULL[name] for name in ("horizontal_flip", "vertical_flip")}
    expected = augment(scene(MOTION), spatial_probability=0.0, **flips)
    assert_same(weakest(scene(MOTION), SIZE, np.random.default_rng(0)), expected)


@pytest.mark.parametrize(
    "name, value",
    [
        *((name, -0.1) for name in NOTHING if not name.startswith(("log2_scale", "eraser_"))),
        ("eraser_probability", -0.1),
        ("eraser_boxes", -1),
        ("spatial_probability", 1.1),
        ("horizontal_flip", float("nan")),
        ("hue", 0.6),
        ("brightness", 1.5),
        ("rotation", 181.0),
        ("log2_scale", (0.5, 0.2)),
        ("log2_scale", (0.0, float("inf"))),
        ("eraser_sides", (0, 5)),
        ("eraser_sides", (9, 5)),
    ],
)
def test_wrong_settings_are_named(name, value):
    with pytest.raises(UserError, match=f"augmentation.{name} is .* must be"):
        construct(FlowAugmentation, NOTHING | {name: value}, "config.data.augmentation")


def test_settings_are_a_config_section():
    construct(FlowAugmentation, NOTHING, "config.data.augmentation")
    with pytest.raises(UserError, match="augmentation lacks rotation"):
        section = {name: value for name, value in NOTHING.items() if name != "rotation"}
        construct(FlowAugmentation, section, "config.data.augmentation")
