"""Colours of optical flow."""

import numpy as np
import pytest

from perceiver_io.errors import UserError
from perceiver_io.tasks.optical_flow.colors import color_wheel, color_wheel_legend, flow_colors

RIGHT, DOWN, LEFT, UP = (1, 0), (0, 1), (-1, 0), (0, -1)


def color_of(u, v, max_length=None):
    return flow_colors(np.array([[[u, v]]], np.float32), max_length)[0, 0]


def test_the_wheel_has_55_hues_and_passes_the_pure_colors():
    wheel = color_wheel()
    assert wheel.shape == (55, 3)
    corners = {0: (255, 0, 0), 15: (255, 255, 0), 21: (0, 255, 0)}
    corners |= {25: (0, 255, 255), 36: (0, 0, 255), 49: (255, 0, 255)}
    for place, color in corners.items():
        np.testing.assert_array_equal(wheel[place], color)
    np.testing.assert_array_equal(wheel[5], (255, 85, 0))  # a third of the way from red to yellow
    # One channel changes between pure colours; no hue is paler than a pure colour.
    assert (wheel.max(axis=1) == 255).all() and (wheel.min(axis=1) == 0).all()
    assert len(np.unique(wheel, axis=0)) == 55


@pytest.mark.parametrize("flow, place", [(RIGHT, 0.0), (DOWN, 13.5), (LEFT, 27.0), (UP, 40.5)])
def test_the_hue_is_the_direction_clockwise_from_the_right(flow, place):
    wheel = color_wheel().astype(float)
    expected = (wheel[int(np.floor(place))] + wheel[int(np.ceil(place))]) / 2
    np.testing.assert_allclose(color_of(*flow), expected, atol=1)


def test_the_saturation_is_the_length():
    np.testing.assert_array_equal(color_of(0, 0, max_length=4), (255, 255, 255))
    np.testing.assert_allclose(color_of(1, 0, max_length=4), (255, 191, 191), atol=1)
    np.testing.assert_allclose(color_of(3, 0, max_length=4), (255, 64, 64), atol=1)
    np.testing.assert_array_equal(color_of(4, 0, max_length=4), (255, 0, 0))
    np.testing.assert_allclose(color_of(40, 0, max_length=4), (191, 0, 0), atol=1)


def test_the_longest_known_flow_is_saturated_by_itself():
    flow = np.array([[[2, 0], [1, 0], [1e10, 0], [0, np.nan], [-np.inf, 0]]], np.float32)
    colors = flow_colors(flow)[0]
    np.testing.assert_allclose(colors[:2], [(255, 0, 0), (255, 128, 128)], atol=1)
    np.testing.assert_array_equal(colors[2:], np.zeros((3, 3)))


def test_no_motion_and_no_pixels():
    np.testing.assert_array_equal(flow_colors(np.zeros((2, 3, 2))), np.full((2, 3, 3), 255))
    assert flow_colors(np.zeros((0, 3, 2))).shape == (0, 3, 3)


def test_the_legend_shows_the_flow_from_its_centre():
    legend = color_wheel_legend(101)
    assert legend.shape == (101, 101, 3) and legend.dtype == np.uint8
    np.testing.assert_array_equal(legend[50, 50], (255, 255, 255))
    np.testing.assert_array_equal(legend[0, 0], (255, 255, 255))  # outside of the disc
    np.testing.assert_allclose(legend[50, 100], color_of(50, 0, 50.5), atol=1)
    np.testing.assert_allclose(legend[90, 30], color_of(-20, 40, 50.5), atol=1)


def test_bad_input():
    with pytest.raises(UserError, match=r"shape \[4, 5, 3\] must be \[height, width, 2\]"):
        flow_colors(np.zeros((4, 5, 3)))
    with pytest.raises(UserError, match="max_length=0 must be above 0"):
        flow_colors(np.zeros((4, 5, 2)), 0)
    with pytest.raises(UserError, match="size=0 must be at least 1"):
        color_wheel_legend(0)
