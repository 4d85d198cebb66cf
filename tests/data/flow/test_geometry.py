"""Affine maps of pairs: where the part lies, and that flow remains the motion of the frames."""

import numpy as np
import pytest

from perceiver_io.data.flow.files import Flow
from perceiver_io.data.flow.geometry import Part, affine, random_part, rotation, warp_pair
from perceiver_io.data.flow.pair import cut
from tests.helpers.flow_scenes import apply, in_frame, pixels, round_trips, scene, warping_errors

STILL = np.eye(3)
TURNING = affine(1.03 * rotation(5), np.array([7.5, -4.25]))
SHEARED = affine(np.array([[1.1, 0.06], [-0.08, 0.93]]), np.array([-6.0, 3.5]))
PROJECTIVE = np.array([[1.02, 0.05, -3], [-0.03, 0.97, 5], [2e-4, -1e-4, 1]])

SIZE = (64, 96)
PLAIN = affine(np.eye(2), np.array([20.0, 30]))
ZOOMED = affine(rotation(12) @ np.diag([0.8, 0.9]), np.array([31.7, 15.2]))
SHRUNK = affine(np.diag([-1.2, 1.1]), np.array([140.0, 20]))
RELATIVE = affine(1.02 * rotation(-3), np.array([3.2, 1.1]))
PARTS = {
    "plain": Part(PLAIN, STILL, SIZE),
    "zoomed": Part(ZOOMED, STILL, SIZE),
    "shrunk and mirrored": Part(SHRUNK, STILL, SIZE),
    "relative": Part(PLAIN, RELATIVE, SIZE),
    "all": Part(ZOOMED, RELATIVE, SIZE),
}


@pytest.mark.parametrize("part", PARTS.values(), ids=PARTS)
@pytest.mark.parametrize("motion", [STILL, TURNING, SHEARED])
def test_flow_equals_the_formula_to_a_thousandth_of_a_pixel(motion, part):
    pair = warp_pair(scene(motion), part)
    places = pixels(*SIZE)
    to_first = np.linalg.inv(part.to_source)
    to_second = part.relative @ to_first
    there = to_second @ motion @ np.linalg.inv(to_first)
    np.testing.assert_allclose(pair.flow.flow, apply(there, places) - places, atol=1e-3)
    back = np.linalg.inv(there)
    known = pair.backward.valid
    error = pair.backward.flow - (apply(back, places) - places)
    np.testing.assert_allclose(error[known], 0, atol=1e-3)
    assert pair.flow.valid.all() and known.mean() > 0.8


@pytest.mark.parametrize("part", PARTS.values(), ids=PARTS)
@pytest.mark.parametrize("motion", [STILL, TURNING, SHEARED, PROJECTIVE])
def test_flow_maps_to_equal_colours_and_back(motion, part):
    pair = warp_pair(scene(motion), part)
    errors = warping_errors(pair)
    assert errors.mean() < 1.5 and np.quantile(errors, 0.99) < 5
    assert round_trips(pair).max() < 2e-3


def test_wrong_flow_is_detected_by_colours():
    pair = warp_pair(scene(TURNING), PARTS["all"])
    off_by_one = pair._replace(flow=pair.flow._replace(flow=pair.flow.flow + 1))
    assert warping_errors(off_by_one).mean() > 5


def test_crops_at_whole_pixels_are_exact():
    pair = scene(PROJECTIVE)
    part, expected = warp_pair(pair, PARTS["plain"]), cut(pair, (30, 20), SIZE)
    same_flow(part.flow, expected.flow)
    same_flow(part.backward, expected.backward)
    np.testing.assert_array_equal(part.first, expected.first)
    np.testing.assert_array_equal(part.second, expected.second)
    # Points that were visible elsewhere in the whole second frame are not visible in its part.
    leaves = ~in_frame(pixels(*SIZE) + part.flow.flow, *SIZE)
    assert (leaves & ~expected.occluded).any()
    np.testing.assert_array_equal(part.occluded, expected.occluded | leaves)


def same_flow(one, other):
    np.testing.assert_array_equal(one.valid, other.valid)
    np.testing.assert_array_equal(one.flow, other.flow)


def test_a_part_of_a_part_is_not_a_view_of_the_whole():
    pair = cut(scene(TURNING), (10, 10), (100, 140))  # not contiguous in memory
    assert warping_errors(warp_pair(pair, PARTS["zoomed"])).mean() < 1.5


def test_beyond_the_border_frames_are_mirrored_and_flow_is_invalid():
    pair = scene(STILL, *SIZE)
    part = warp_pair(pair, Part(affine(np.eye(2), np.array([-5.0, 4.0])), STILL, SIZE))
    known = np.zeros(SIZE, bool)
    known[:-4, 5:] = True
    np.testing.assert_array_equal(part.flow.valid, known)
    np.testing.assert_array_equal(part.backward.valid, known)
    np.testing.assert_array_equal(part.occluded, ~known)
    assert not part.flow.flow[~known].any()
    mirrored = np.pad(pair.first, ((0, 4), (5, 0), (0, 0)), mode="reflect")[4:, : SIZE[1]]
    np.testing.assert_array_equal(part.first, mirrored)


@pytest.mark.filterwarnings("error")
def test_flow_is_not_interpolated_across_a_motion_edge():
    height, width = 120, 160
    still = scene(STILL)
    flow = np.zeros((height, width, 2), np.float32)
    flow[:, 70:] = 10, -4
    pair = still._replace(flow=Flow(flow, np.ones((height, width), bool)), backward=None)
    part = Part(ZOOMED, RELATIVE, SIZE)
    result = warp_pair(pair, part)
    to_second = RELATIVE[:2, :2] @ np.linalg.inv(ZOOMED[:2, :2])
    places = pixels(*SIZE)
    moving = apply(ZOOMED, places)[..., 0] > 69.5
    expected = np.where(moving[..., None], to_second @ [10, -4], 0)
    expected = expected + apply(RELATIVE, places) - places
    np.testing.assert_allclose(result.flow.flow, expected, atol=1e-4)
    assert result.backward is None


def test_only_weak_edges_are_interpolated():
    flow = np.zeros((4, 4, 2), np.float32)
    between = Part(affine(np.eye(2), np.array([0.25, 0])), STILL, (4, 3))
    for step, expected in ((0.4, 0.1), (0.6, 0)):
        flow[:, 1:, 0] = step
        pair = scene(STILL, 4, 4)._replace(flow=Flow(flow, np.ones((4, 4), bool)))
        np.testing.assert_allclose(warp_pair(pair, between).flow.flow[:, 0, 0], expected, atol=1e-6)


@pytest.mark.filterwarnings("error")
def test_sparse_flow_stays_sparse_and_exact():
    pair = scene(TURNING)
    valid = np.random.default_rng(0).random(pair.size) < 0.3
    flow = np.where(valid[..., None], pair.flow.flow, np.float32(0))
    pair = pair._replace(flow=Flow(flow, valid))
    part = warp_pair(pair, PARTS["zoomed"])
    x, y = np.moveaxis(np.rint(apply(ZOOMED, pixels(*SIZE))).astype(int), -1, 0)
    np.testing.assert_array_equal(part.flow.valid, valid[y, x])
    assert not part.flow.flow[~part.flow.valid].any()
    # The motion of the nearest point, up to 0.7 pixels away, differs by at most 0.7 * 0.1 pixels.
    whole = warp_pair(scene(TURNING), PARTS["zoomed"]).flow.flow
    assert np.abs(part.flow.flow - whole)[part.flow.valid].max() < 0.08


def corners(part):
    """(x, y) of the part's corners in the first and in the second whole frame."""
    height, width = part.size
    points = np.array([[0, 0], [width - 1, 0], [0, height - 1], [width - 1, height - 1]], float)
    back = part.to_source @ np.linalg.inv(part.relative)
    return np.concatenate([apply(part.to_source, points), apply(back, points)])


def place(linear, relative=STILL, whole=(120, 160), size=SIZE, enlargement=1.0, seed=0):
    rng = np.random.default_rng(seed)
    return random_part(
        linear, relative, whole=whole, size=size, max_enlargement=enlargement, rng=rng
    )


def test_both_frames_lie_inside_if_they_fit():
    relative = affine(1.02 * rotation(4), np.array([5.0, -3.0]))
    seen = np.concatenate([corners(place(rotation(12), relative, seed=s)) for s in range(300)])
    assert (seen >= -1e-6).all() and (seen <= np.array([159, 119]) + 1e-6).all()
    # The whole frame is used.
    assert (seen.min(axis=0) < 2).all() and (seen.max(axis=0) > (157, 117)).all()


def test_without_scale_and_rotation_all_whole_positions_are_equally_likely():
    places = [place(np.diag([-1.0, 1.0]), whole=(65, 98), seed=s).to_source for s in range(600)]
    offsets, counts = np.unique([p[:2, 2] for p in places], axis=0, return_counts=True)
    np.testing.assert_array_equal(
        offsets,
        [[x, y] for x in (95, 96, 97) for y in (0, 1)],  # mirrored: from the right
    )
    assert counts.min() > 60


def test_a_part_that_does_not_fit_is_enlarged_as_needed():
    relative = affine(rotation(3), np.array([2.0, 1.0]))
    part = place(rotation(20), relative, whole=SIZE, enlargement=4.0)
    seen = corners(part)
    assert (seen >= -1e-6).all() and (seen <= np.array(SIZE[::-1]) - 1 + 1e-6).all()
    assert min(np.ptp(seen, axis=0) / (np.array(SIZE[::-1]) - 1)) < 1
    assert max(np.ptp(seen, axis=0) / (np.array(SIZE[::-1]) - 1)) == pytest.approx(1)


def test_a_side_that_cannot_fit_is_centred():
    (x, y) = corners(place(rotation(90), whole=SIZE)).T
    assert np.ptp(y) == pytest.approx(SIZE[1] - 1)
    assert y.mean() == pytest.approx((SIZE[0] - 1) / 2)
    assert x.min() >= -1e-6 and x.max() <= SIZE[1] - 1 + 1e-6


def test_the_relative_map_rotates_about_the_centre():
    part = place(np.eye(2), affine(rotation(30), np.zeros(2)))
    center = (np.array(SIZE[::-1]) - 1) / 2
    np.testing.assert_allclose(apply(part.relative, center), center)
    moved = apply(part.relative, center + [10, 0]) - center
    np.testing.assert_allclose(moved, [10 * np.cos(np.pi / 6), 5])
