"""Affine maps of a pair of frames: placing a random crop, and resampling with one interpolation.

Maps are 3x3 matrices that act on (x, y, 1) in pixels, with pixel centres at whole numbers. A part
of a pair is given by two of them: `to_source` maps pixels of the part to pixels of the whole first
frame, and `relative` is an additional motion of the part's second frame, in pixels of the part.
"""

import math
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, Complex64, Float, Float32, Float64, Int32, UInt8

from perceiver_io.data.flow.files import Flow
from perceiver_io.data.flow.pair import FlowPair

Map = Float64[np.ndarray, "3 3"]

# Worker processes share the cores already.
cv2.setNumThreads(1)

# Flow is interpolated between pixels whose flows differ by at most this many pixels. If they differ
# more, they are taken to belong to two objects that move apart; a mixture would be the motion of
# neither, so the flow of the nearest pixel is used. At an edge with a smaller difference,
# interpolation is wrong by at most half of it, no more than the nearest flow would be on a surface
# that is really sheared by as much.
_SAME_MOTION = 0.5

# Positions are computed in float32: this far beyond the outermost pixels may be a rounding error.
_ROUNDING = 1e-3

# Rows computed at a time: few enough for all intermediate results to stay in the cache.
_BAND = 16


class Part(NamedTuple):
    """A part of a pair, of `size` = (height, width), and its maps; see the module docstring."""

    to_source: Map
    relative: Map
    size: tuple[int, int]


def rotation(degrees: float) -> Float64[np.ndarray, "2 2"]:
    """Rotates (x, y) from the x axis (right) towards the y axis (down)."""
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.array([[cosine, -sine], [sine, cosine]])


def affine(linear: Float[np.ndarray, "2 2"], translation: Float[np.ndarray, "2"]) -> Map:
    """The map that multiplies by `linear` and then adds `translation`."""
    result = np.eye(3)
    result[:2, :2], result[:2, 2] = linear, translation
    return result


def random_part(
    linear: Float[np.ndarray, "2 2"],
    relative: Map,
    *,
    whole: tuple[int, int],
    size: tuple[int, int],
    max_enlargement: float,
    rng: np.random.Generator,
) -> Part:
    """Places a part at random so that both of its frames lie inside the whole frames, if they fit.

    If they do not fit, `linear` is enlarged as needed, at most by the factor `max_enlargement`; a
    part that still does not fit is centred and extends beyond the frame.

    Args:
        linear: maps the whole frame to the part, without translation.
        relative: additional motion of the second frame, with the part's centre as origin.
        whole: (height, width) of the whole frame.
        size: (height, width) of the part.
        max_enlargement: at least 1.
        rng: draws the position. The part's first pixel is placed on a whole pixel if possible, so
            that nothing is interpolated unless there is scaling or rotation.
    """
    center = (np.array(size[::-1]) - 1) / 2
    room = np.array(whole[::-1], float) - 1
    corners = center[:, None] * np.array([[-1, 1, -1, 1], [-1, -1, 1, 1]])
    moved_corners = (np.linalg.inv(relative) @ np.vstack([corners, np.ones(4)]))[:2]
    to_source = np.linalg.inv(linear)
    reach = to_source @ np.hstack([corners, moved_corners])
    needed = (np.ptp(reach, axis=1) / np.maximum(room, 1e-9)).max()
    enlargement = min(max(needed, 1.0), max_enlargement)
    to_source, reach = to_source / enlargement, reach / enlargement
    from_center = -to_source @ center
    first_pixel = [
        _whole_between(offset - side.min(), offset + space - side.max(), rng)
        for offset, side, space in zip(from_center, reach, room, strict=True)
    ]
    to_center = affine(np.eye(2), -center)
    return Part(
        to_source=affine(to_source, np.array(first_pixel)),
        relative=affine(np.eye(2), center) @ relative @ to_center,
        size=size,
    )


def _whole_between(low: float, high: float, rng: np.random.Generator) -> float:
    """A random integer from `low` to `high`, or their mean if there is no integer between them."""
    # Limits that should be integers may be off by rounding.
    first, last = math.ceil(low - 1e-9), math.floor(high + 1e-9)
    return float(rng.integers(first, last + 1)) if first <= last else (low + high) / 2


def warp_pair(pair: FlowPair, part: Part) -> FlowPair:
    """Cuts a part out of a pair, interpolating each frame once; flow is between the new frames.

    Beyond the border, frames are mirrored, flow is not valid and `occluded` is true. Points whose
    flow leaves the new second frame become occluded.
    """
    there, back = part.relative, np.linalg.inv(part.relative)
    first_source, second_source = part.to_source, part.to_source @ back
    flow, occluded = _moved_flow(
        pair.flow, pair.occluded, first_source, second_source, there, part.size
    )
    backward = pair.backward
    if backward is not None:
        backward, _ = _moved_flow(backward, None, second_source, first_source, back, part.size)
    return pair._replace(
        first=_moved_frame(pair.first, first_source, part.size),
        second=_moved_frame(pair.second, second_source, part.size),
        flow=flow,
        backward=backward,
        occluded=None if occluded is None else occluded | _leaves_frame(flow),
    )


def _moved_frame(
    frame: UInt8[np.ndarray, "H W 3"], to_source: Map, size: tuple[int, int]
) -> UInt8[np.ndarray, "h w 3"]:
    return cv2.warpAffine(
        frame,
        to_source[:2],
        size[::-1],
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REFLECT_101,
    )


def _leaves_frame(flow: Flow) -> Bool[np.ndarray, "H W"]:
    """Pixels with valid flow that points outside the frame by more than half a pixel."""
    height, width = flow.valid.shape
    x = flow.flow[..., 0] + np.arange(width, dtype=np.float32)
    y = flow.flow[..., 1] + np.arange(height, dtype=np.float32)[:, None]
    return flow.valid & ((x < -0.5) | (x > width - 0.5) | (y < -0.5) | (y > height - 0.5))


def _moved_flow(
    flow: Flow,
    occluded: Bool[np.ndarray, "H W"] | None,
    own_source: Map,
    other_source: Map,
    relative: Map,
    size: tuple[int, int],
) -> tuple[Flow, Bool[np.ndarray, "h w"] | None]:
    """Flow from the part of one frame to the part of the other, and its occlusions.

    A pixel p of the part lies at x in its own frame and moves to x + flow(x) in the other frame,
    which is A (x + flow(x)) in the part of the other frame, where A is the inverse of
    `other_source`. Since A x = relative p, the new flow is L flow(x) + (relative - 1) p, with L the
    linear part of A. In this form there is no rounding error where nothing moves.
    """
    values = np.ascontiguousarray(flow.flow).view(np.complex64)[..., 0]
    # NaN differs from everything, so invalid flow is never mixed in.
    values = np.where(flow.valid, values, np.complex64(complex(np.nan, np.nan)))
    same, mirrored = _complex_factors(np.linalg.inv(other_source[:2, :2]))
    along_row, along_column, constant = np.array([1, 1j, 0]) @ (relative - np.eye(3))
    result, valid = np.empty(size, np.complex64), np.empty(size, bool)
    hidden = None if occluded is None else np.empty(size, bool)
    for top in range(0, size[0], _BAND):
        rows = slice(top, min(top + _BAND, size[0]))
        places = _Places.of(own_source, rows, size[1], flow.valid.shape)
        sampled, valid[rows] = _sample(values, places)
        moved = sampled * same + sampled.conj() * mirrored
        moved += (along_row * np.arange(size[1]) + constant).astype(np.complex64)
        moved += (along_column * np.arange(size[0])[rows, None]).astype(np.complex64)
        result[rows] = np.where(valid[rows], moved, np.complex64(0))
        if hidden is not None and occluded is not None:
            hidden[rows] = occluded.ravel()[places.nearest] | ~places.inside
    return Flow(result.view(np.float32).reshape(*size, 2), valid), hidden


def _complex_factors(linear: Float64[np.ndarray, "2 2"]) -> tuple[np.complex64, np.complex64]:
    """The s and m for which z -> s z + m conj(z) maps z = u + iv as `linear` maps (u, v)."""
    u, v = np.array([1, 1j]) @ linear
    return np.complex64((u - 1j * v) / 2), np.complex64((u + 1j * v) / 2)


class _Places(NamedTuple):
    """Positions in the whole frame of a band of the part's pixels.

    Attributes:
        x: pixels from the left, clipped to the frame.
        y: pixels from the top, clipped to the frame.
        inside: whether the position was inside the frame before clipping.
        nearest: index of the nearest pixel in the flattened frame.
    """

    x: Float32[np.ndarray, "h w"]
    y: Float32[np.ndarray, "h w"]
    inside: Bool[np.ndarray, "h w"]
    nearest: Int32[np.ndarray, "h w"]

    @classmethod
    def of(cls, to_source: Map, rows: slice, columns: int, whole: tuple[int, int]) -> "_Places":
        height, width = whole
        column, row = np.arange(columns), np.arange(rows.start, rows.stop)[:, None]
        x, y = (
            (a * column + offset).astype(np.float32) + (b * row).astype(np.float32)
            for a, b, offset in to_source[:2]
        )
        inside = (x >= -_ROUNDING) & (x <= width - 1 + _ROUNDING)
        inside &= (y >= -_ROUNDING) & (y <= height - 1 + _ROUNDING)
        np.clip(x, 0, width - 1, out=x)
        np.clip(y, 0, height - 1, out=y)
        nearest = np.rint(y).astype(np.int32) * width + np.rint(x).astype(np.int32)
        return cls(x, y, inside, nearest)


def _sample(
    values: Complex64[np.ndarray, "H W"], places: _Places
) -> tuple[Complex64[np.ndarray, "h w"], Bool[np.ndarray, "h w"]]:
    """Flow u + iv (NaN: not valid) at positions between pixels, and where it is valid.

    It is valid where the nearest pixel is, so that sparse flow stays equally sparse, and is
    interpolated between four valid pixels of the same motion (see `_SAME_MOTION`), else that of the
    nearest pixel. OpenCV is not used because it rounds positions to 1/32 pixel.
    """
    height, width = values.shape
    values = values.ravel()
    column, row = places.x.astype(np.int32), places.y.astype(np.int32)
    dx, dy = places.x - column, places.y - row
    index = row * width + column
    # At the last row and column the weight of the next one is 0.
    right = index + (column < width - 1)
    down = np.where(row < height - 1, np.int32(width), np.int32(0))
    value, nearest = values.take(index), values.take(places.nearest)
    to_right = values.take(right) - value
    below = values.take(index + down) - value
    across = values.take(right + down) - value
    smooth = np.ones(index.shape, bool)
    for step in (to_right, below, across):
        smooth &= step.real * step.real + step.imag * step.imag <= _SAME_MOTION**2
    across -= to_right
    across -= below
    mixed = value + to_right * dx + below * dy + across * (dx * dy)
    return np.where(smooth, mixed, nearest), places.inside & ~np.isnan(nearest.real)
