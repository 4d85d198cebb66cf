"""Figures of filled-in texts: attention of their masked bytes."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from perceiver_io.tasks.attention import Attention
from perceiver_io.tasks.figures import HEAT, heat_bar, titled_figure

_UNKNOWN = "#c62828"
_BYTES_IN_LINE = 80
_MOST_BYTES = 24  # masked bytes of a text that are shown


def text_attention(symbols: Sequence[str], unknown: Sequence[int], attention: Attention) -> Figure:
    """Attention of the masked bytes of a text, drawn along the lines of the text.

    At the top, the bytes to which each masked byte attends through all latents; below, those to
    which single latents attend; at the end, the latents to which the masked bytes attend.

    Args:
        symbols: one for each byte of the filled-in text.
        unknown: positions of the masked bytes, the queries.
        attention: of these queries.
    """
    count = min(len(unknown), _MOST_BYTES)
    asking = [f"{symbols[place]}, byte {place}" for place in unknown[:count]]
    latents = [f"latent {number}" for number in attention.latents]
    asked_for = (
        "masked bytes" if count == len(unknown) else f"{count} of {len(unknown)} masked bytes"
    )
    kinds = (
        (f"attention of {asked_for}, through all latents", asking, attention.through[0][:count]),
        ("attention of single latents", latents, attention.encoder[0]),
    )
    columns = min(len(symbols), _BYTES_IN_LINE)
    lines = -(-len(symbols) // _BYTES_IN_LINE)
    heights = [0.2 * len(names) + 0.6 for _, names, _ in kinds]
    figure = titled_figure(
        max(0.16 * columns + 2.2, 6), lines * sum(heights) + heights[0] + 0.6, ""
    )
    panels = figure.subplots(2 * lines + 1, 1, height_ratios=[*heights * lines, heights[0]])
    for number, (panel, (what, names, weights)) in enumerate(
        zip(panels, kinds * lines, strict=False)
    ):
        start = number // 2 * _BYTES_IN_LINE
        places = range(start, min(start + columns, len(symbols)))
        _matrix(panel, what, names, weights[:, places], weights.max())
        panel.set_xlim(-0.5, columns - 0.5)
        _symbols_below(panel, symbols, places, unknown)
    asked = attention.decoder[:count]
    _matrix(panels[-1], f"attention of {asked_for} to these latents", asking, asked, asked.max())
    panels[-1].set_xticks(range(len(latents)), latents, fontsize=8)
    heat_bar(figure)
    return figure


def _matrix(
    axes: Axes,
    what: str,
    names: Sequence[str],
    weights: Float[np.ndarray, "rows columns"],
    largest: float,
) -> None:
    """A row of weights for each name."""
    axes.imshow(weights, cmap=HEAT, vmin=0, vmax=largest, aspect="auto", interpolation="nearest")
    axes.set_yticks(range(len(names)), names, fontsize=8, parse_math=False)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_title(f"{what}; largest {largest:.1%}", fontsize=8, loc="left")


def _symbols_below(
    axes: Axes, symbols: Sequence[str], places: Sequence[int], unknown: Sequence[int]
) -> None:
    """Writes the bytes of a line, with masked ones in red."""
    axes.set_xticks(range(len(places)), [symbols[k] for k in places], parse_math=False)
    for label, place in zip(axes.get_xticklabels(), places, strict=True):
        label.set(family="monospace", fontsize=9)
        if place in unknown:
            label.set(color=_UNKNOWN, weight="bold")
