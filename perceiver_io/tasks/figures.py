"""Pictures of predictions. They are drawn without pyplot, so that none is ever left open."""

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from perceiver_io.data.vision.crop import Box
from perceiver_io.tasks.optical_flow.colors import color_wheel_legend

Picture = UInt8[np.ndarray, "H W 3"]
Envelope = Float[np.ndarray, "T 2"]

INK, _FIRST, _OTHERS = "#333333", "#1565c0", "#90b4d8"
_LARGEST = 1000  # pixels of a picture's longer side in a figure
_WHEEL_SIZE = 200
_MOST_PARTS = 2000  # of an envelope, more than a picture has columns


def classified_image(
    image: Picture, *, seen: Box, title: str, probabilities: Mapping[str, float]
) -> Figure:
    """An image with the part that the model sees dashed, and beside it bars of probabilities.

    Args:
        image: the whole image.
        seen: left, upper, right and lower edge of the part.
        title: the image's name.
        probabilities: (class name, probability), the most probable one first.
    """
    height, width, _ = image.shape
    wide = float(np.clip(width / height, 0.4, 2.5))
    rows = max(3.2, 0.55 * len(probabilities))
    figure = Figure(figsize=(rows * wide + 5, rows + 0.4), layout="constrained")
    picture, bars = figure.subplots(1, 2, width_ratios=[rows * wide, 5])
    show(picture, image)
    left, upper, right, lower = seen
    frame = Rectangle(
        (left - 0.5, upper - 0.5), right - left, lower - upper, fill=False, ls="--", color="white"
    )
    frame.set_path_effects([patheffects.withStroke(linewidth=2.5, foreground=INK)])
    picture.add_patch(frame)
    picture.set_title(title, fontsize=10, parse_math=False)
    note = dict(transform=picture.transAxes, ha="center", va="top", fontsize=8, color=INK)
    picture.text(0.5, -0.02, "dashed: what the model sees", **note)
    _draw_bars(bars, probabilities)
    return figure


def flow_pictures(
    rows: Sequence[tuple[Picture, Picture, Picture]],
    *,
    labels: Sequence[tuple[str, str]],
    max_length: float,
) -> Figure:
    """Two frames and the flow between them in each row, and the key to the colours.

    Args:
        rows: frame, next frame, and the flow as colours.
        labels: names of the frames.
        max_length: pixels of flow at the rim of the colour wheel.
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


def contact_sheet(
    originals: Sequence[Picture],
    reconstructions: Sequence[Picture],
    *,
    seconds: Sequence[float],
    sounds: Mapping[str, Envelope],
    duration: float,
    title: str,
) -> Figure:
    """Frames above their reconstructions, and below them the sound of both.

    Args:
        originals: frames.
        reconstructions: as many.
        seconds: when they are in the film.
        sounds: name -> least and greatest sample of equal parts of the film.
        duration: of the film in seconds.
        title: one line.
    """
    columns = len(originals)
    height, width, _ = originals[0].shape
    side = 1.6
    tall = side * height / width
    figure = Figure(
        figsize=(max(side * columns, 6) + 0.4, 2 * tall + 0.9 * len(sounds) + 1.1),
        layout="constrained",
    )
    figure.suptitle(title, fontsize=10, parse_math=False)
    pictures, waves = figure.subfigures(
        2, 1, height_ratios=[2 * tall + 0.4, 0.9 * len(sounds) + 0.5]
    )
    grid = pictures.subplots(2, columns, squeeze=False)
    for column, time in enumerate(seconds):
        grid[0, column].set_title(f"{time:.2f} s", fontsize=8)
    for row, name, frames in zip(
        grid, ("original", "reconstruction"), (originals, reconstructions), strict=True
    ):
        for panel, frame in zip(row, frames, strict=True):
            show(panel, frame)
        row[0].set_axis_on()
        row[0].set(xticks=[], yticks=[])
        row[0].spines[:].set_visible(False)
        row[0].set_ylabel(name, fontsize=9)
    _draw_sounds(waves, sounds, duration)
    return figure


def show(axes: Axes, image: Picture) -> None:
    """An image in the axes' own pixels, shrunk where it is larger than can be seen."""
    height, width, _ = image.shape
    small = Image.fromarray(image)
    small.thumbnail((_LARGEST, _LARGEST))
    axes.imshow(small, extent=(-0.5, width - 0.5, height - 0.5, -0.5))
    axes.set_axis_off()


def _draw_bars(axes: Axes, probabilities: Sequence[tuple[str, float]]) -> None:
    places = range(len(probabilities))
    names, values = zip(*probabilities, strict=True)
    colors = [_FIRST] + [_OTHERS] * (len(values) - 1)
    bars = axes.barh(places, values, color=colors, height=0.7)
    axes.bar_label(bars, [f"{value:.1%}" for value in values], padding=4, fontsize=10)
    wrapped = ["\n".join(textwrap.wrap(x, 26, max_lines=2, placeholder=" ...")) for x in names]
    axes.set_yticks(places, wrapped, fontsize=10, parse_math=False)
    axes.tick_params(length=0)
    axes.set_xlim(0, 1.15)
    axes.set_xticks([])
    axes.invert_yaxis()
    axes.spines[["top", "right", "bottom"]].set_visible(False)


def _draw_sounds(figure, sounds: Mapping[str, Envelope], duration: float) -> None:
    loudest = max(np.abs(envelope).max(initial=0) for envelope in sounds.values()) or 1
    for axes, (name, envelope) in zip(
        figure.subplots(len(sounds), 1, sharex=True, squeeze=False).flat,
        sounds.items(),
        strict=True,
    ):
        parts = np.array_split(envelope, min(len(envelope), _MOST_PARTS))
        lower, upper = zip(*((part[:, 0].min(), part[:, 1].max()) for part in parts), strict=True)
        time = (np.arange(len(parts)) + 0.5) * duration / len(parts)
        axes.fill_between(time, lower, upper, color=_FIRST, linewidth=0.6)
        axes.set_ylabel(f"{name}\nsound", fontsize=7)
        axes.set_ylim(-1.05 * loudest, 1.05 * loudest)
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlim(0, duration)
    axes.set_xlabel("seconds", fontsize=8)
