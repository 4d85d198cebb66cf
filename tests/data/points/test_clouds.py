"""Preparation of clouds against NumPy."""

import numpy as np
import pytest

from perceiver_io.data.points.clouds import AugmentedCopies, Cloud, CloudPreparation, turned
from perceiver_io.errors import UserError

POINTS = np.random.default_rng(0).normal(size=(50, 3), scale=(1, 2, 3)) + 5
CLOUD = Cloud(POINTS.astype(np.float32), 4, "a cloud")
PLAIN = dict(num_points=50, point_scale=(1.0, 1.0))


def train(seed=0, cloud=CLOUD, **settings):
    preparation = CloudPreparation(**PLAIN | settings)
    return preparation.training_example(cloud, np.random.default_rng(seed))["points"]


def as_set(points):
    return points[np.lexsort(points.T)]


def test_evaluated_clouds_have_mean_0_and_largest_coordinate_1():
    example = CloudPreparation(**PLAIN).evaluation_example(CLOUD, np.random.default_rng(0))
    centred = POINTS - POINTS.mean(0)
    expected = centred / np.abs(centred).max()
    np.testing.assert_allclose(as_set(example["points"]), as_set(expected), atol=1e-6)
    assert example["label"] == 4 and example["points"].dtype == np.float32


def test_evaluation_is_the_same_each_time_and_keeps_no_order():
    preparation = CloudPreparation(num_points=20)
    first, second = (
        preparation.evaluation_example(CLOUD, np.random.default_rng(seed))["points"]
        for seed in (0, 1)
    )
    np.testing.assert_array_equal(first, second)
    # In files, neighbours may follow each other.
    line = np.linspace(0, 1, 50)[:, None] * np.ones(3)
    found = preparation.evaluation_example(Cloud(line, 0, ""), np.random.default_rng(0))["points"]
    assert (np.diff(found[:, 0]) < 0).any() and np.ptp(found[:, 0]) > 1.5


def test_training_draws_other_points_each_time():
    assert not np.array_equal(as_set(train(0, num_points=20)), as_set(train(1, num_points=20)))
    np.testing.assert_allclose(as_set(train(0)), as_set(train(1)), atol=1e-6)


def test_each_point_has_a_scale_of_its_own():
    # On a sphere, with its mean in the middle.
    sphere = POINTS - POINTS.mean(0)
    sphere /= np.linalg.norm(sphere, axis=1, keepdims=True)
    sphere = Cloud(np.concatenate([sphere, -sphere]), 0, "sphere")
    points = train(cloud=sphere, num_points=100, point_scale=(0.99, 1.01))
    radii = np.linalg.norm(points - points.mean(0), axis=1)
    radii /= radii.mean()
    assert 0.985 < radii.min() < 0.995 and 1.005 < radii.max() < 1.015


def test_axes_are_scaled_separately():
    def shape(points):
        spread = np.linalg.norm(points, axis=0)
        return spread / spread[0]

    ratios = [shape(train(seed, axis_scale=(0.5, 2.0))) / shape(train()) for seed in range(50)]
    assert 0.25 <= np.min(ratios) < 0.5 and 2 < np.max(ratios) <= 4


@pytest.mark.parametrize(("up", "axis"), [("y", 1), ("z", 2)])
def test_rotation_is_about_the_vertical_axis(up, axis):
    points = POINTS - POINTS.mean(0)
    quarter = turned(points, np.pi / 2, up)
    np.testing.assert_array_equal(quarter[:, axis], points[:, axis])
    np.testing.assert_allclose(np.linalg.norm(quarter, axis=1), np.linalg.norm(points, axis=1))
    # Counter-clockwise seen from above.
    others = [i for i in range(3) if i != axis]
    unit = np.zeros((1, 3))
    unit[0, axis - 2] = 1
    np.testing.assert_allclose(turned(unit, np.pi / 2, up)[0, axis - 1], 1)
    assert np.abs(quarter[:, others] - points[:, others]).max() > 1
    rotated = train(up=up, max_rotation=180)
    assert np.linalg.det(np.linalg.lstsq(train(up=up), rotated, rcond=None)[0]) > 0


def test_half_of_the_clouds_are_mirrored():
    plain = as_set(np.abs(train()))
    found = [train(seed, mirror=True) for seed in range(40)]
    for points in found:
        np.testing.assert_allclose(as_set(np.abs(points)), plain, atol=1e-6)
    skews = [(points[:, 0] ** 3).mean() for points in found]
    assert 10 < sum(skew > 0 for skew in skews) < 30


def test_shifts_come_after_normalisation():
    means = np.array([train(seed, max_shift=0.2).mean(0) for seed in range(50)])
    assert np.abs(means).max() <= 0.2 + 1e-6 and means.min() < -0.15 and means.max() > 0.15


def test_copies_are_augmented_like_training_examples():
    preparation = CloudPreparation(num_points=20)
    copies = AugmentedCopies(preparation, 3)
    example = copies.evaluation_example(CLOUD, np.random.default_rng(7))
    rng = np.random.default_rng(7)
    for copy in example["points"]:
        np.testing.assert_array_equal(copy, preparation.training_example(CLOUD, rng)["points"])
    spec = copies.example_spec()
    assert {name: (x.shape, x.dtype) for name, x in example.items()} == spec


@pytest.mark.parametrize(
    ("points", "message"),
    [
        (POINTS[:19], "a cloud has 19 points, but 20 are needed: .*config.data.num_points"),
        (np.ones((20, 3)), "a cloud has points that are not finite, or only one place"),
        (np.full((20, 3), np.nan), "a cloud has points that are not finite"),
    ],
)
def test_clouds_that_cannot_be_prepared(points, message):
    with pytest.raises(UserError, match=message):
        CloudPreparation(num_points=20).evaluation_example(Cloud(points, 0, "a cloud"), None)
