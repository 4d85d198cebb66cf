"""Figures of optical flow."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, UInt8
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from perceiver_io.tasks.optical_flow.colors import SATURATION_PERCENTILE, flow_colors

# Errors in pixels, up to which they are told apart; less where all flow is shorter.
_LARGEST_ERROR = 10.0


class ComparedFlow(NamedTuple):
    """A pair of frames with the true flow, where it is known, and a predicted one, in pixels."""

    first: UInt8[np.ndarray, "H W 3"]
    second: UInt8[np.ndarray, "H W 3"]
    predicted: Float[np.ndarray, "H W 2"]
    true: Float[np.ndarray, "H W 2"]
    valid: Bool[np.ndarray, "H W"]


def compared_flow(pairs: Sequence[ComparedFlow]) -> Figure:
    """A row for each pair: frames, true and predicted flow in the same colours, and the error.

    Colours stand for directions, their saturation for lengths (Baker et al., 2011). Where the flow
    is not known, true flow and error are grey.
    """
    height, width, _ = pairs[0].first.shape
    side = 2.4
    figure = Figure(
        figsize=(5 * side + 0.8, len(pairs) * (side * height / width + 0.25) + 0.3),
        layout="constrained",
    )
    grid = figure.subplots(len(pairs), 5, squeeze=False, subplot_kw=dict(xticks=[], yticks=[]))
    lengths = [_saturated_length(pair) for pair in pairs]
    largest_error = min(_LARGEST_ERROR, max(lengths))
    for row, pair, length in zip(grid, pairs, lengths, strict=True):
        image = _draw_pair(row, pair, length, largest_error)
    figure.colorbar(image, ax=grid[:, 4], label="pixels", shrink=0.8, extend="max")
    return figure


def _saturated_length(pair: ComparedFlow) -> float:
    """The length of the true flow that has full saturation."""
    length = np.hypot(*np.moveaxis(pair.true[pair.valid], -1, 0))
    return float(np.percentile(length, SATURATION_PERCENTILE).clip(1)) if length.size else 1.0


def _draw_pair(
    row: np.ndarray, pair: ComparedFlow, max_length: float, largest_error: float
) -> AxesImage:
    """Draws a pair into an array of five axes; returns the map of its error."""
    error = np.hypot(*np.moveaxis(pair.predicted - pair.true, -1, 0))
    mean = f"{error[pair.valid].mean():.2f} px on average" if pair.valid.any() else "unknown"
    true = flow_colors(pair.true, max_length)
    true[~pair.valid] = 128
    panels = {
        "first frame": pair.first,
        "second frame": pair.second,
        f"true flow, up to {max_length:.0f} px": true,
        "predicted flow": flow_colors(pair.predicted, max_length),
        f"error, {mean}": np.ma.masked_array(error, ~pair.valid),
    }
    for axes, (title, panel) in zip(row, panels.items(), strict=True):
        image = axes.imshow(panel, cmap="magma", vmin=0, vmax=largest_error)
        axes.set_title(title, fontsize=8)
        axes.set_facecolor("grey")
    return image
