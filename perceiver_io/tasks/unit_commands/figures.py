"""Figures of commands: the map with all units, those that are selected, and the target."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from perceiver_io.config.unit_features import COLUMN, ENEMY, OWN
from perceiver_io.data.starcraft.commands import positions
from perceiver_io.tasks.figures import ACCENT, INK, RIGHT, WRONG

_COLUMNS = 3
_NEUTRAL = "#c4c4c4"
_FOE = "#c77b30"
_RING = dict(marker="o", facecolors="none", linewidths=1.3, s=80)
_CROSS = dict(marker="x", linewidths=1.3, s=40)


class DrawnCommand(NamedTuple):
    """A command, as indices of units.

    Attributes:
        action: the name of the action type.
        selected: the selected units.
        target: the target; None if it is no unit.
    """

    action: str
    selected: Int[np.ndarray, " s"]
    target: int | None


class Shown(NamedTuple):
    """Units with the command of the model and, if it is known, that of the player."""

    units: Float[np.ndarray, "n F"]
    chosen: DrawnCommand
    given: DrawnCommand | None
    title: str


def commands(examples: Sequence[Shown]) -> Figure:
    """A grid of maps.

    Units are dots: the player's own, those of the enemy, and neutral ones. Rings are the units that
    the player selected, crosses those of the model; dotted lines go from each selection to its
    target unit.
    """
    columns = min(_COLUMNS, len(examples))
    rows = -(-len(examples) // columns)
    figure = Figure(figsize=(3.4 * columns, 3.8 * rows + 0.4), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid:
        axes.set_axis_off()
    for axes, example in zip(grid, examples, strict=False):
        _draw(axes, example)
    figure.legend(handles=_key(), loc="outside lower center", ncols=6, fontsize=8, frameon=False)
    return figure


def _draw(axes: Axes, example: Shown) -> None:
    places = positions(example.units)
    alliance = example.units[:, COLUMN["alliance"]]
    for is_shown, color, size in (
        ((alliance != OWN) & (alliance != ENEMY), _NEUTRAL, 3),
        (alliance == ENEMY, _FOE, 9),
        (alliance == OWN, ACCENT, 9),
    ):
        axes.scatter(*places[is_shown].T, c=color, s=size, linewidths=0)
    chosen, given = example.chosen, example.given
    title = f"{example.title}\n" if example.title else ""
    if given is None:
        _mark(axes, places, chosen, INK, _CROSS)
        axes.set_title(f"{title}{chosen.action}", fontsize=9, color=INK)
    else:
        is_right = set(chosen.selected) == set(given.selected)
        _mark(axes, places, given, INK, _RING)
        _mark(axes, places, chosen, RIGHT if is_right else WRONG, _CROSS)
        axes.set_title(
            f"{title}{chosen.action}; player: {given.action}",
            fontsize=9,
            color=RIGHT if chosen.action == given.action else WRONG,
        )
    axes.set_aspect("equal")


def _mark(
    axes: Axes,
    places: Float[np.ndarray, "n 2"],
    command: DrawnCommand,
    color: str,
    marker: dict[str, str | float],
) -> None:
    selected = places[command.selected]
    colors = dict(edgecolors=color) if marker is _RING else dict(c=color)
    axes.scatter(*selected.T, **colors, **marker)
    if command.target is not None and len(selected):
        line = np.stack([selected.mean(0), places[command.target]])
        axes.plot(*line.T, color=color, linestyle=":", linewidth=1)


def _key() -> list[Line2D]:
    """What the marks mean."""
    form = dict(linestyle="none")
    return [
        Line2D([], [], marker="o", color=ACCENT, markersize=4, label="own", **form),
        Line2D([], [], marker="o", color=_FOE, markersize=4, label="enemy", **form),
        Line2D([], [], marker="o", color=_NEUTRAL, markersize=3, label="neutral", **form),
        Line2D([], [], marker="o", color=INK, fillstyle="none", label="player", **form),
        Line2D([], [], marker="x", color=RIGHT, label="model, the same", **form),
        Line2D([], [], marker="x", color=WRONG, label="model, another", **form),
    ]
