"""Optical flow as colours: hue is direction, saturation is length.

Source: Baker, Scharstein, Lewis, Roth, Black, Szeliski, "A Database and Evaluation Methodology for
Optical Flow" (2011), whose colour wheel is used in the figures of most papers on optical flow.
"""

import numpy as np
from jaxtyping import Float, UInt8

from perceiver_io.data.flow.files import UNKNOWN_FLOW
from perceiver_io.errors import UserError

# Number of steps from each colour to the next and back to the first; finer where the eye
# distinguishes more hues.
_CORNERS = (
    ((255, 0, 0), 15),  # red to yellow
    ((255, 255, 0), 6),  # to green
    ((0, 255, 0), 4),  # to cyan
    ((0, 255, 255), 11),  # to blue
    ((0, 0, 255), 13),  # to magenta
    ((255, 0, 255), 6),  # to red
)
# The percentile of flow lengths to show at full saturation, so that a few outliers do not make all
# other pixels pale.
SATURATION_PERCENTILE = 99

# Shortest flow in pixels that may have full saturation, so that noise between frames without motion
# stays pale.
LEAST_SCALE = 1.0

_BEYOND = 0.75  # brightness of flow longer than the maximum, at full saturation


def color_wheel() -> UInt8[np.ndarray, "55 3"]:
    """The 55 hues, clockwise as seen in the image, beginning with flow to the right."""
    colors = np.array([color for color, _ in _CORNERS], float)
    hues = [
        start + (end - start) * np.arange(steps)[:, None] / steps
        for start, end, (_, steps) in zip(colors, np.roll(colors, -1, 0), _CORNERS, strict=True)
    ]
    return np.rint(np.concatenate(hues)).astype(np.uint8)


def flow_colors(
    flow: Float[np.ndarray, "H W 2"], max_length: float | None = None
) -> UInt8[np.ndarray, "H W 3"]:
    """A picture of optical flow: no motion is white, unknown flow is black.

    Red is right, yellow down, cyan left and violet up; longer flow is more saturated, and darker
    beyond the maximum.

    Args:
        flow: displacements in pixels, to the right and down. Where a component is not finite or
            beyond 1e9, the flow is unknown. For a `Flow`, pass
            `np.where(valid[..., None], flow, np.nan)`.
        max_length: the length in pixels at full saturation; None: the greatest in this picture.

    Raises UserError for another shape, and for a maximum that is not positive.
    """
    if flow.ndim != 3 or flow.shape[-1] != 2:
        raise UserError(f"Flow of shape {list(flow.shape)} must be [height, width, 2].")
    if max_length is not None and not max_length > 0:
        raise UserError(f"max_length={max_length} must be above 0 pixels.")
    known = (np.abs(flow) <= UNKNOWN_FLOW).all(axis=-1)  # False for NaN too
    flow = np.where(known[..., None], flow, 0).astype(float)
    length = np.hypot(flow[..., 0], flow[..., 1])
    if max_length is None:
        max_length = length.max(initial=0) or 1
    saturation = (length / max_length)[..., None]
    hue = _hues(np.arctan2(flow[..., 1], flow[..., 0]))
    inside = 1 - saturation * (1 - hue)
    colors = np.where(saturation <= 1, inside, _BEYOND * hue) * known[..., None]
    return np.rint(255 * colors).astype(np.uint8)


def color_wheel_legend(size: int) -> UInt8[np.ndarray, "size size 3"]:
    """The colour key: a disc in which each point has the colour of flow from the centre to it.

    Raises UserError when `size`, the side in pixels, is not positive.
    """
    if size < 1:
        raise UserError(f"size={size} must be at least 1 pixel.")
    offsets = np.arange(size) - (size - 1) / 2
    flow = np.stack(np.meshgrid(offsets, offsets), axis=-1)
    colors = flow_colors(flow, max_length=size / 2)
    colors[np.hypot(flow[..., 0], flow[..., 1]) > size / 2] = 255
    return colors


def _hues(angle: Float[np.ndarray, "H W"]) -> Float[np.ndarray, "H W 3"]:
    """Colours in [0, 1] by direction in radians, clockwise from the right."""
    wheel = color_wheel() / 255
    # By convention, a full turn goes from the first hue to the last, not back to the first.
    place = np.mod(angle, 2 * np.pi) / (2 * np.pi) * (len(wheel) - 1)
    lower = np.floor(place).astype(int)
    upper = (lower + 1) % len(wheel)
    share = (place - lower)[..., None]
    return (1 - share) * wheel[lower] + share * wheel[upper]
