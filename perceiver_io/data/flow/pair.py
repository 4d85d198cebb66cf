"""Two frames and the optical flow between them."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, UInt8

from perceiver_io.data.flow.files import Flow
from perceiver_io.errors import UserError

# Flow vectors that end at the same pixel belong to one surface if their standard deviation is at
# most this many pixels. Below this weight, too few of them end at a pixel to tell.
_SAME_MOTION = 0.5
_LEAST_WEIGHT = 0.1


class FlowPair(NamedTuple):
    """Two frames of one size and the flow between them.

    Attributes:
        first: the frame whose pixels the flow is given for, RGB.
        second: the next frame.
        flow: from `first` to `second`.
        backward: from `second` to `first`; None where it is not known.
        occluded: pixels of `first` whose surface is hidden or out of view in `second`; None where
            not known.
        name: for error messages and figures.
    """

    first: UInt8[np.ndarray, "H W 3"]
    second: UInt8[np.ndarray, "H W 3"]
    flow: Flow
    backward: Flow | None
    occluded: Bool[np.ndarray, "H W"] | None
    name: str

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.first.shape[:2]


def reversed_pair(pair: FlowPair) -> FlowPair:
    """The frames in reverse order with the backward flow, or `inverse_flow` if it is not known."""
    backward = pair.backward or inverse_flow(pair.flow)
    return FlowPair(pair.second, pair.first, backward, pair.flow, None, pair.name)


def inverse_flow(flow: Flow) -> Flow:
    """Backward flow, as far as it follows from forward flow: dense where surfaces stay visible.

    Each pixel's negated flow is distributed to the four pixels around the position where it ends,
    with bilinear weights, and averaged there. Pixels where no flow ends, such as those that become
    visible, and pixels where differing flows end, as where one surface hides another, are not
    valid.
    """
    height, width = flow.valid.shape
    row, column = np.nonzero(flow.valid)
    u, v = flow.flow[row, column].astype(float).T
    left, top = np.floor(column + u), np.floor(row + v)
    right_share, lower_share = column + u - left, row + v - top
    sums = np.zeros((4, height * width))
    for down, right in np.ndindex(2, 2):
        x, y = left + right, top + down
        weight = abs(1 - right - right_share) * abs(1 - down - lower_share)
        inside = (x >= 0) & (x < width) & (y >= 0) & (y < height) & (weight > 0)
        target = (y * width + x)[inside].astype(np.int64)
        for total, value in zip(sums, (np.ones_like(u), u, v, u**2 + v**2), strict=True):
            total += np.bincount(target, (weight * value)[inside], height * width)
    _, u, v, square = sums / np.maximum(sums[0], 1e-9)
    is_same = square - u**2 - v**2 <= _SAME_MOTION**2
    valid = ((sums[0] > _LEAST_WEIGHT) & is_same).reshape(height, width)
    back = -np.stack([u, v], axis=-1).reshape(height, width, 2)
    return Flow(np.where(valid[..., None], back, 0).astype(np.float32), valid)


def cut(pair: FlowPair, corner: tuple[int, int], size: tuple[int, int]) -> FlowPair:
    """The crop of `size` = (height, width) whose top left pixel is `corner` = (top, left).

    Raises UserError where the pair is too small.
    """
    if any(c + s > whole for c, s, whole in zip(corner, size, pair.size, strict=True)):
        raise UserError(
            f"{pair.name} has {pair.size[0]}x{pair.size[1]} pixels, too few for a crop of "
            f"{size[0]}x{size[1]}: set config.data.image_size, and the model's image size, to at "
            "most the size of the smallest frames, or leave these frames out."
        )
    (top, left), (height, width) = corner, size
    part = (slice(top, top + height), slice(left, left + width))

    def flow_part(flow: Flow) -> Flow:
        return Flow(flow.flow[part], flow.valid[part])

    return pair._replace(
        first=pair.first[part],
        second=pair.second[part],
        flow=flow_part(pair.flow),
        backward=None if pair.backward is None else flow_part(pair.backward),
        occluded=None if pair.occluded is None else pair.occluded[part],
    )


def padded(pair: FlowPair, size: tuple[int, int]) -> FlowPair:
    """Pads a pair to at least `size` = (height, width), at the bottom and right, with edge pixels.

    Flow is not valid in the padding; backward flow and occlusions are dropped.
    """
    missing = [(0, max(side - whole, 0)) for whole, side in zip(pair.size, size, strict=True)]
    if not np.any(missing):
        return pair
    first, second = (np.pad(x, [*missing, (0, 0)], "edge") for x in (pair.first, pair.second))
    flow = Flow(np.pad(pair.flow.flow, [*missing, (0, 0)]), np.pad(pair.flow.valid, missing))
    return FlowPair(first, second, flow, None, None, pair.name)


def random_cut(pair: FlowPair, size: tuple[int, int], rng: np.random.Generator) -> FlowPair:
    """A random crop of `size` = (height, width). Raises UserError as `cut` does."""
    top, left = (
        int(rng.integers(max(whole - side, 0) + 1))
        for whole, side in zip(pair.size, size, strict=True)
    )
    return cut(pair, (top, left), size)
