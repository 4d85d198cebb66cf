"""The figure of `scripts.compare_flow`."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from perceiver_io.tasks.optical_flow.colors import color_wheel_legend, flow_colors
from scripts._flow_comparison import PERCENTILE, Compared

_SIDE = 2.4


def draw(compared: Sequence[Compared]) -> Figure:
    """Two rows for each pair: flow above and errors below, beside the frames and the true flow.

    The disc is the colour key of the flow; its edge and the brightest error correspond to the
    percentile of the true flow's length. Where flow is not known, true flow and errors are grey.
    """
    shape = (2 * len(compared), 2 + len(compared[0].flows))
    heights = [_SIDE * one.pair.size[0] / one.pair.size[1] + 0.25 for one in compared]
    figure = Figure(figsize=(_SIDE * shape[1] + 0.8, 2 * sum(heights) + 0.3), layout="constrained")
    grid = figure.subplots(
        *shape,
        height_ratios=np.repeat(heights, 2),
        squeeze=False,
        subplot_kw=dict(xticks=[], yticks=[], facecolor="grey"),
    )
    for rows, one in zip(grid.reshape(-1, 2, shape[1]), compared, strict=True):
        _draw_pair(figure, rows, one)
    return figure


def _draw_pair(figure: Figure, rows: np.ndarray, compared: Compared) -> None:
    """Draws a pair into axes [2, 2 + methods]."""
    pair, flows = compared
    true, valid = pair.flow
    length = np.hypot(*true[valid].T)
    longest = max(np.percentile(length, PERCENTILE), 1.0) if length.size else 1.0
    colors = flow_colors(true, longest)
    colors[~valid] = 128
    (first, above, *flow_axes), (second, below, *error_axes) = rows
    _show(first, pair.first, pair.name)
    _show(second, pair.second, "second frame")
    _show(above, colors, "true flow")
    below.set_axis_off()
    _show(below, color_wheel_legend(min(pair.size)), f"colours: up to {longest:.1f} px")
    for upper, lower, (name, flow) in zip(flow_axes, error_axes, flows.items(), strict=True):
        error = np.ma.masked_array(np.hypot(*np.moveaxis(flow - true, -1, 0)), ~valid)
        _show(upper, flow_colors(flow, longest), name)
        image = _show(lower, error, f"error, {error.mean():.2f} px on average", longest)
    figure.colorbar(image, ax=list(error_axes), label="pixels", shrink=0.8, extend="max")


def _show(axes: Axes, picture: np.ndarray, title: str, largest: float | None = None):
    axes.set_title(title, fontsize=8)
    return axes.imshow(picture, cmap="magma", vmin=0, vmax=largest)
