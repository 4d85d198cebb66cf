"""Figures of optical flow."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Circle

from perceiver_io.tasks.attention import Attention
from perceiver_io.tasks.figures import (
    Picture,
    heat_and_scale,
    heat_bar,
    latent_titles,
    name_row,
    show,
    sides,
    titled_figure,
)
from perceiver_io.tasks.optical_flow.colors import (
    LEAST_SCALE,
    SATURATION_PERCENTILE,
    color_wheel_legend,
    flow_colors,
)

# Upper end of the error scale in pixels; less if all flow is shorter.
_LARGEST_ERROR = 10.0
_WHEEL_SIZE = 200


class ComparedFlow(NamedTuple):
    """A pair of frames with the true flow, where known, and the predicted flow, in pixels."""

    first: UInt8[np.ndarray, "H W 3"]
    second: UInt8[np.ndarray, "H W 3"]
    predicted: Float[np.ndarray, "H W 2"]
    true: Float[np.ndarray, "H W 2"]
    valid: Bool[np.ndarray, "H W"]


def compared_flow(pairs: Sequence[ComparedFlow]) -> Figure:
    """A row for each pair: frames, true and predicted flow on the same scale, and the error.

    Hues are directions, saturations are lengths (Baker et al., 2011), as in the key in a corner of
    the true flow. Where the flow is not known, true flow and error are grey.
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


def flow_pictures(
    rows: Sequence[tuple[Picture, Picture, Picture]],
    *,
    labels: Sequence[tuple[str, str]],
    max_length: float,
) -> Figure:
    """Two frames and the flow between them in each row, and the colour key.

    Args:
        rows: frame, next frame, and the flow as colours.
        labels: names of the frames.
        max_length: length of flow at the rim of the colour wheel, in pixels.
    """
    height, width, _ = rows[0][0].shape
    side = 3.6 * float(np.clip(width / height, 0.5, 2)) ** 0.5
    tall = side * height / width
    figure = Figure(figsize=(3 * side + 1.8, (tall + 0.35) * len(rows)), layout="constrained")
    grid = figure.subplots(len(rows), 4, squeeze=False, width_ratios=[side, side, side, 1.6])
    for axes, pictures, names in zip(grid, rows, labels, strict=True):
        for panel, picture, name in zip(axes[:3], pictures, (*names, "flow"), strict=True):
            show(panel, picture)
            panel.set_title(name, fontsize=9, parse_math=False)
        axes[3].set_axis_off()
    wheel = grid[0, 3]
    wheel.imshow(color_wheel_legend(_WHEEL_SIZE))
    wheel.set_title(f"direction of motion;\nrim: {max_length:.3g} pixels", fontsize=8)
    return figure


def flow_attention(
    frames: Sequence[Picture],
    flow: Picture,
    attention: Attention,
    *,
    max_length: float,
    title: str,
) -> Figure:
    """Attention of latents to two frames, and of pixels of the flow to these latents.

    Args:
        frames: both frames, as the model sees them.
        flow: between them, as colours.
        attention: of queries on the grid of the first frame; the encoder's maps are for both frames
            together, [n, h, w], or for each of them, [n, 2, h, w].
        max_length: length in pixels at the rim of the colour key.
        title: one line.
    """
    (encoder,) = attention.encoder
    size = encoder.shape[-2:]
    count = len(attention.latents)
    if encoder.ndim == 3:
        both = np.mean(frames, axis=0).astype(np.uint8)
        rows = [("both frames", both, encoder)]
    else:
        rows = [
            (f"frame {k + 1}", frame, maps)
            for k, (frame, maps) in enumerate(zip(frames, encoder.swapaxes(0, 1), strict=True))
        ]
    rows.append(("flow", flow, attention.decoder.T.reshape(count, *size)))
    wide, tall = sides(frames[0])
    figure = titled_figure((wide + 0.1) * (count + 1) + 0.7, (tall + 0.35) * len(rows) + 0.9, title)
    panels = figure.subplots(len(rows), count + 1)
    for line, (name, picture, maps) in zip(panels, rows, strict=True):
        show(line[0], picture)
        line[0].set_title(name, fontsize=8)
        for panel, weights in zip(line[1:], maps, strict=True):
            heat_and_scale(panel, frames[0] if name == "flow" else picture, weights)
        name_row(line[1], "used by" if name == "flow" else "attends to")
    panels[-1, 0].set_title(f"flow, rim of the key: {max_length:.3g} px", fontsize=8)
    _draw_key(panels[-1, 0])
    for panel, name in zip(panels[0, 1:], latent_titles(attention), strict=True):
        panel.set_title(name, fontsize=8)
    heat_bar(figure)
    return figure


def _saturated_length(pair: ComparedFlow) -> float:
    """The length of true flow at full saturation."""
    length = np.hypot(*np.moveaxis(pair.true[pair.valid], -1, 0))
    if not length.size:
        return LEAST_SCALE
    return float(np.percentile(length, SATURATION_PERCENTILE).clip(LEAST_SCALE))


def _draw_pair(
    row: np.ndarray, pair: ComparedFlow, max_length: float, largest_error: float
) -> AxesImage:
    """Draws a pair into an array of five axes; returns the image of its error."""
    error = np.hypot(*np.moveaxis(pair.predicted - pair.true, -1, 0))
    mean = f"{error[pair.valid].mean():.2f} px on average" if pair.valid.any() else "unknown"
    true = flow_colors(pair.true, max_length)
    true[~pair.valid] = 128
    panels = {
        "first frame": pair.first,
        "second frame": pair.second,
        f"true flow, rim of the key: {max_length:.3g} px": true,
        "predicted flow": flow_colors(pair.predicted, max_length),
        f"error, {mean}": np.ma.masked_array(error, ~pair.valid),
    }
    for axes, (title, panel) in zip(row, panels.items(), strict=True):
        image = axes.imshow(panel, cmap="magma", vmin=0, vmax=largest_error)
        axes.set_title(title, fontsize=8)
        axes.set_facecolor("grey")
    _draw_key(row[2])
    return image


def _draw_key(axes: Axes) -> None:
    """Draws the colour key of flow in a corner."""
    key = axes.inset_axes((0.02, 0.02, 0.22, 0.22))
    wheel = key.imshow(color_wheel_legend(_WHEEL_SIZE))
    radius = _WHEEL_SIZE / 2
    rim = key.add_patch(Circle((radius, radius), radius - 1, fill=False, color="black"))
    wheel.set_clip_path(rim)
    key.set_axis_off()
