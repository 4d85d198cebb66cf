"""Figures of image classification: predictions and attention."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int, UInt8
from matplotlib import patheffects
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from perceiver_io.data.pipeline.listing import printable
from perceiver_io.data.vision.crop import Box
from perceiver_io.tasks.attention import Attention
from perceiver_io.tasks.class_figures import answer_grid, draw_bars, write_answer
from perceiver_io.tasks.figures import (
    INK,
    Picture,
    heat_and_scale,
    heat_bar,
    latent_titles,
    name_row,
    show,
    sides,
    titled_figure,
)


def classified_images(
    images: Sequence[UInt8[np.ndarray, "H W C"]],
    labels: Int[np.ndarray, " N"],
    probabilities: Float[np.ndarray, "N K"],
    class_names: Sequence[str],
    columns: int = 6,
) -> Figure:
    """A grid of images, each with its predicted class, the probability, and whether it is right.

    Args:
        images: values from 0 to 255.
        labels: the true classes.
        probabilities: the model's probabilities.
        class_names: the names of the classes.
        columns: images per row.
    """
    figure, grid = answer_grid(len(images), columns)
    for axes, image, label, probability in zip(grid, images, labels, probabilities, strict=True):
        axes.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        write_answer(axes, int(label), probability, class_names)
    return figure


def classified_image(
    image: Picture, *, seen: Box, title: str, probabilities: Sequence[tuple[str, float]]
) -> Figure:
    """An image, with the part that the model sees in a dashed box, beside bars of probabilities.

    Args:
        image: the whole image.
        seen: left, upper, right and lower edge of that part.
        title: the image's name.
        probabilities: (class name, probability), in descending order of probability.
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
    picture.set_title(printable(title), fontsize=10, parse_math=False)
    note = dict(transform=picture.transAxes, ha="center", va="top", fontsize=8, color=INK)
    picture.text(0.5, -0.02, "dashed: what the model sees", **note)
    draw_bars(bars, probabilities)
    return figure


def image_attention(image: Picture, attention: Attention, *, title: str) -> Figure:
    """An image, the attention of its class to it, and the attention of single latents.

    Args:
        image: as the model sees it.
        attention: of one query; drawn with a row of maps for each cross-attend.
        title: of the figure.
    """
    rows = [np.concatenate(maps) for maps in zip(attention.through, attention.encoder, strict=True)]
    titles = ["all latents,\nby weight", *latent_titles(attention)]
    reads = len(rows)
    wide, tall = sides(image)
    figure = titled_figure(
        (wide + 0.1) * (len(titles) + 1) + 0.7, (tall + 0.25) * reads + 0.9, title
    )
    grid = figure.add_gridspec(reads, len(titles) + 1)
    panel = figure.add_subplot(grid[:, 0])
    show(panel, image)
    panel.set_title("the model's view", fontsize=8)
    panels = [
        [figure.add_subplot(grid[i, j + 1]) for j in range(len(titles))] for i in range(reads)
    ]
    for number, (line, maps) in enumerate(zip(panels, rows, strict=True)):
        for panel, weights in zip(line, maps, strict=True):
            heat_and_scale(panel, image, weights)
        if reads > 1:
            name_row(line[0], f"cross-attend {number + 1}")
    for panel, name in zip(panels[0], titles, strict=True):
        panel.set_title(name, fontsize=8)
    heat_bar(figure)
    return figure
