"""Common parts of figures of classified examples: answers over pictures, bars of probabilities."""

import textwrap
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from perceiver_io.tasks.confusion import short_name
from perceiver_io.tasks.figures import ACCENT, RIGHT, WRONG

_OTHERS = "#90b4d8"
_SHOWN = 24


def shown_rows(valid: Bool[np.ndarray, " B"]) -> Int[np.ndarray, " n"]:
    """Up to 24 valid examples, spread over the batch."""
    rows = np.flatnonzero(valid)
    return rows[np.linspace(0, len(rows) - 1, min(len(rows), _SHOWN)).astype(int)]


def answer_grid(count: int, columns: int) -> tuple[Figure, Sequence[Axes]]:
    """A figure with a grid of small pictures to be drawn, and the axes of each."""
    rows = max(-(-count // columns), 1)
    figure = Figure(figsize=(1.6 * columns, 1.95 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid:
        axes.set_axis_off()
    return figure, grid[:count]


def write_answer(
    axes: Axes, label: int, probability: Float[np.ndarray, " K"], class_names: Sequence[str]
) -> None:
    """Writes the predicted class, its probability, and whether it is right, above a picture."""
    answer = int(probability.argmax())
    right = answer == label
    mark = "\N{CHECK MARK}" if right else "\N{BALLOT X}"
    caption = f"{mark} {short_name(class_names[answer])}, {probability[answer]:.0%}"
    if not right:
        caption += f"\nis {short_name(class_names[label])}"
    axes.set_title(caption, color=RIGHT if right else WRONG, fontsize=9, pad=3)


def draw_bars(axes: Axes, probabilities: Sequence[tuple[str, float]]) -> None:
    """Bars of (class name, probability), in descending order of probability."""
    places = range(len(probabilities))
    names, values = zip(*probabilities, strict=True)
    colors = [ACCENT] + [_OTHERS] * (len(values) - 1)
    bars = axes.barh(places, values, color=colors, height=0.7)
    axes.bar_label(bars, [f"{value:.1%}" for value in values], padding=4, fontsize=10)
    wrapped = ["\n".join(textwrap.wrap(x, 26, max_lines=2, placeholder=" ...")) for x in names]
    axes.set_yticks(places, wrapped, fontsize=10, parse_math=False)
    axes.tick_params(length=0)
    axes.set_xlim(0, 1.15)
    axes.set_xticks([])
    axes.invert_yaxis()
    axes.spines[["top", "right", "bottom"]].set_visible(False)
