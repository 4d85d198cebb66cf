"""Figures of filled-in texts: the model's certainty, and attention of their masked bytes."""

import re
from collections.abc import Sequence
from typing import NamedTuple

import matplotlib
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from perceiver_io.tasks.attention import Attention
from perceiver_io.tasks.figures import HEAT, INK, heat_bar, titled_figure

_UNKNOWN = "#c62828"
_BYTES_IN_LINE = 80
_MOST_BYTES = 24  # masked bytes of a text that are shown

_CERTAINTY = "YlGn"
_CONTROL = {"\n": "\N{RETURN SYMBOL}"}
_COLUMNS = 96  # characters in a line
_LINES = 6  # of each text
_FONT_SIZE = 8
_CHARACTER = 0.07  # inches, width in the monospaced font
_LINE = 0.30  # inches, height, for a text and what is true below it


class FilledTokens(NamedTuple):
    """The tokens of a text, as symbols.

    Attributes:
        filled: with the predicted tokens in the masked places.
        true: what was there.
        certainty: the probability of the predicted token; NaN at places that were not masked.
    """

    filled: Sequence[str]
    true: Sequence[str]
    certainty: Float[np.ndarray, " M"]


def filled_texts(texts: Sequence[FilledTokens]) -> Figure:
    """The beginnings of texts, with the predicted tokens on the colour of their probability.

    Below a wrong prediction, which is red, stands what is true.
    """
    panels = [_lines_of(text) for text in texts]
    num_lines = sum(len(lines) + 1 for lines in panels)
    figure = Figure(figsize=(_COLUMNS * _CHARACTER + 0.9, num_lines * _LINE + 0.3))
    height, width = figure.get_figheight(), figure.get_figwidth()
    axes = figure.add_axes((0, 0, _COLUMNS * _CHARACTER / width, 1))
    axes.set(xlim=(0, _COLUMNS), ylim=(height / _LINE, 0))
    axes.set_axis_off()
    row = 0.7
    for text, lines in zip(texts, panels, strict=True):
        for line in lines:
            _write_line(axes, row, text, line)
            row += 1
        row += 1
    bar = figure.colorbar(
        ScalarMappable(cmap=_CERTAINTY),
        cax=figure.add_axes((1 - 0.6 / width, 0.4 / height, 0.12 / width, 1 - 0.8 / height)),
    )
    bar.set_ticks([0, 0.5, 1], labels=["0%", "50%", "100%"], fontsize=7)
    return figure


def _lines_of(text: FilledTokens) -> list[list[tuple[int, int]]]:
    """For each line, its tokens and the columns where they begin."""
    lines, column = [[]], 0
    for place, pair in enumerate(zip(text.filled, text.true, strict=True)):
        size = max(len(_shown(symbol)) for symbol in pair)
        if column + size > _COLUMNS:
            lines.append([])
            column = 0
        if len(lines) > _LINES:
            return lines[:_LINES]
        lines[-1].append((place, column))
        column += size
    return lines


def _write_line(axes: Axes, row: float, text: FilledTokens, line: list[tuple[int, int]]) -> None:
    """Writes the words that were given, and each predicted token on its colour."""
    style = dict(fontsize=_FONT_SIZE, family="monospace", va="center", parse_math=False)
    given = [" "] * _COLUMNS
    colors = matplotlib.colormaps[_CERTAINTY]
    for place, column in line:
        filled, true = _shown(text.filled[place]), _shown(text.true[place])
        probability = text.certainty[place]
        if np.isnan(probability):
            given[column : column + len(filled)] = filled
            continue
        size = max(len(filled), len(true))
        box = Rectangle((column, row - 0.25), size, 0.5, color=colors(probability), linewidth=0)
        axes.add_patch(box)
        is_right = text.filled[place] == text.true[place]
        ink = ("white" if probability > 0.7 else INK) if is_right else _UNKNOWN
        axes.text(column, row, filled, color=ink, **style)
        if not is_right:
            axes.text(column, row + 0.45, true, color=INK, **style)
    for word in re.finditer(r"\S+", "".join(given)):
        axes.text(word.start(), row, word[0], color=INK, **style)


def _shown(symbol: str) -> str:
    """A token on one line."""
    return "".join(x if x.isprintable() else _CONTROL.get(x, "?") for x in symbol)


def text_attention(
    symbols: Sequence[str], unknown: Sequence[int], attention: Attention, unit: str
) -> Figure:
    """Attention of the masked tokens of a text, drawn along the lines of the text.

    At the top, the tokens to which each masked one attends through all latents; below, those to
    which single latents attend; at the end, the latents to which the masked tokens attend.

    Args:
        symbols: one for each token of the filled-in text.
        unknown: positions of the masked tokens, the queries.
        attention: of these queries.
        unit: what the tokens are, in the plural.
    """
    count = min(len(unknown), _MOST_BYTES)
    asking = [f"{symbols[place]}, {unit.removesuffix('s')} {place}" for place in unknown[:count]]
    latents = [f"latent {number}" for number in attention.latents]
    asked_for = (
        f"masked {unit}" if count == len(unknown) else f"{count} of {len(unknown)} masked {unit}"
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
