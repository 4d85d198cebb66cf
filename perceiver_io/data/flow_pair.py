"""Two frames and the optical flow between them."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, UInt8

from perceiver_io.data.flow_files import Flow
from perceiver_io.errors import UserError

# Flows that lead to one pixel are of one surface if their standard deviation is at most this many
# pixels.
_SAME_MOTION = 0.5


class FlowPair(NamedTuple):
    """Two frames of one size and the flow between them.

    Attributes:
        first: the frame whose pixels the flow is given for, RGB.
        second: the frame that they move to.
        flow: from `first` to `second`.
        backward: from `second` to `first`; None where it is not known.
        occluded: pixels of `first` that are hidden or outside in `second`; None where it is not
            known.
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
    """The frames in the other order, with the flow back; `inverse_flow` where that is not known."""
    backward = pair.backward or inverse_flow(pair.flow)
    return FlowPair(pair.second, pair.first, backward, pair.flow, None, pair.name)


def inverse_flow(flow: Flow) -> Flow:
    """The flow back, as far as it follows from the flow forth: dense where surfaces stay in sight.

    Each pixel's flow, negated, is that of the pixel that it leads to; the mean counts where several
    lead to one. Not valid are pixels that none leads to, as where something new comes into sight,
    and those to which flows lead that differ, as where one surface hides another.
    """
    height, width = flow.valid.shape
    row, column = np.nonzero(flow.valid)
    u, v = flow.flow[row, column].astype(float).T
    x, y = np.rint(column + u), np.rint(row + v)
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    target = (y * width + x)[inside].astype(np.int64)

    def mean(values: Float[np.ndarray, " N"]) -> Float[np.ndarray, "H W"]:
        total = np.bincount(target, values[inside], height * width)
        return (total / np.maximum(count, 1)).reshape(height, width)

    count = np.bincount(target, minlength=height * width)
    back = -np.stack([mean(u), mean(v)], axis=-1)
    variance = mean(u**2) + mean(v**2) - np.square(back).sum(-1)
    valid = (count.reshape(height, width) > 0) & (variance <= _SAME_MOTION**2)
    return Flow(np.where(valid[..., None], back, 0).astype(np.float32), valid)


def cut(pair: FlowPair, corner: tuple[int, int], size: tuple[int, int]) -> FlowPair:
    """The part of `size` = (height, width) whose top left pixel is `corner` = (top, left).

    Raises UserError where the pair does not reach that far.
    """
    if any(c + s > whole for c, s, whole in zip(corner, size, pair.size, strict=True)):
        raise UserError(
            f"{pair.name} has {pair.size[0]}x{pair.size[1]} pixels, of which no part of "
            f"{size[0]}x{size[1]} can be cut out: set config.data.image_size to at most the size "
            "of the smallest frames, with the model's to match, or leave these frames out."
        )
    (top, left), (height, width) = corner, size
    part = (slice(top, top + height), slice(left, left + width))

    def flow_part(flow: Flow | None) -> Flow | None:
        return flow and Flow(*(x[part] for x in flow))

    return pair._replace(
        first=pair.first[part],
        second=pair.second[part],
        flow=flow_part(pair.flow),
        backward=flow_part(pair.backward),
        occluded=None if pair.occluded is None else pair.occluded[part],
    )


def random_cut(pair: FlowPair, size: tuple[int, int], rng: np.random.Generator) -> FlowPair:
    """A part of `size` = (height, width) from anywhere. Raises UserError as `cut` does."""
    spare = (max(whole - side, 0) for whole, side in zip(pair.size, size, strict=True))
    return cut(pair, tuple(int(rng.integers(room + 1)) for room in spare), size)
