"""Pairs of frames whose motion is a formula, and checks of flow against the frames."""

import numpy as np
from scipy import ndimage

from perceiver_io.data.flow.files import Flow
from perceiver_io.data.flow.pair import FlowPair


def pixels(height, width):
    """(x, y) of every pixel, [height, width, 2]."""
    return np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1).astype(float)


def apply(matrix, points):
    """Points [..., 2] moved by a 3x3 matrix, which may be projective."""
    result = np.concatenate([points, np.ones_like(points[..., :1])], axis=-1) @ matrix.T
    return result[..., :2] / result[..., 2:]


def texture(points):
    """Smooth colours at any points."""
    x, y = points[..., 0], points[..., 1]
    waves = [
        np.sin(x / 5) + np.cos(y / 7 + 1),
        np.sin((x + y) / 8) + np.sin((x - 2 * y) / 11),
        np.cos(x / 9 - 2) + np.sin(y / 5 + 2),
    ]
    return np.rint(127 + 60 * np.stack(waves, axis=-1)).astype(np.uint8)


def scene(motion, height=120, width=160):
    """A pair of frames of a texture whose points move by the 3x3 matrix `motion`."""
    places, back = pixels(height, width), np.linalg.inv(motion)
    target = apply(motion, places)
    everywhere = np.ones((height, width), bool)
    return FlowPair(
        first=texture(places),
        second=texture(apply(back, places)),
        flow=Flow((target - places).astype(np.float32), everywhere),
        backward=Flow((apply(back, places) - places).astype(np.float32), everywhere),
        occluded=~in_frame(target, height, width),
        name="waves",
    )


def in_frame(points, height, width):
    x, y = points[..., 0], points[..., 1]
    return (x >= -0.5) & (x <= width - 0.5) & (y >= -0.5) & (y <= height - 0.5)


def sampled(image, points):
    """`image` [height, width, C] interpolated at points [..., 2]; NaN outside."""
    places = points[..., ::-1].transpose(2, 0, 1)  # OpenCV would round them to 1/32
    return np.stack(
        [
            ndimage.map_coordinates(channel.astype(float), places, order=1, cval=np.nan)
            for channel in np.moveaxis(image, -1, 0)
        ],
        axis=-1,
    )


def warping_errors(pair):
    """The second frame where the flow ends minus the first frame, where both show the point."""
    return seen(pair, sampled(pair.second, pixels(*pair.size) + pair.flow.flow) - pair.first)


def round_trips(pair):
    """Forward plus backward flow, in pixels, where both are known."""
    back = np.where(pair.backward.valid[..., None], pair.backward.flow, np.nan)
    return seen(pair, sampled(back, pixels(*pair.size) + pair.flow.flow) + pair.flow.flow)


def seen(pair, differences):
    """Absolute values of known differences [height, width, C] at pixels visible in both frames."""
    known = pair.flow.valid & ~pair.occluded & ~np.isnan(differences[..., 0])
    assert known.mean() > 0.3
    return np.abs(differences[known])
