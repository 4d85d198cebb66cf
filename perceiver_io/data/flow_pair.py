"""Two frames and the optical flow between them."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, UInt8

from perceiver_io.data.flow_files import Flow
from perceiver_io.errors import UserError


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
    """The frames in the other order, with the flow back; `pair.backward` must be known."""
    return FlowPair(pair.second, pair.first, pair.backward, pair.flow, None, pair.name)


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
