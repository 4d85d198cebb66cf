"""Common parts of the tasks' figures: pictures, heat maps over them, PNG files.

Figures are drawn without pyplot, so that none is left open. Since some attention maps are sharp and
others are spread out, each has its own scale, from 0 to its largest weight, which is written beside
it.
"""

from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from PIL import Image

from perceiver_io.data.pipeline.listing import printable
from perceiver_io.tasks.attention import Attention

Picture = UInt8[np.ndarray, "H W 3"]

INK, ACCENT = "#333333", "#1565c0"
RIGHT, WRONG = "#1a7f37", "#c62828"
HEAT = "inferno"
SIDE = 1.5  # inches, longer side of a picture under a heat map
_OPACITY = 0.65
_LARGEST = 1000  # pixels, longer side of a picture in a figure


def save(figure: Figure, path: Path) -> None:
    """Writes a figure as PNG."""
    figure.savefig(path, dpi=100, bbox_inches="tight")


def show(axes: Axes, image: Picture) -> None:
    """Shows an image with axes in its pixels, reduced if it is larger than can be seen."""
    height, width, _ = image.shape
    small = Image.fromarray(image)
    small.thumbnail((_LARGEST, _LARGEST))
    axes.imshow(small, extent=(-0.5, width - 0.5, height - 0.5, -0.5))
    axes.set_axis_off()


def titled_figure(width: float, height: float, title: str) -> Figure:
    """A figure of this size in inches, with a title."""
    figure = Figure(figsize=(width, height), layout="constrained")
    figure.suptitle(printable(title), fontsize=10, parse_math=False)
    return figure


def sides(picture: Picture) -> tuple[float, float]:
    """Width and height in inches."""
    height, width, _ = picture.shape
    longest = max(height, width)
    return SIDE * width / longest, SIDE * height / longest


def latent_titles(attention: Attention) -> list[str]:
    """The index of each latent, and its share in the output."""
    return [
        f"latent {number}\nweight {weight:.1%}"
        for number, weight in zip(attention.latents, attention.decoder.mean(0), strict=True)
    ]


def heat_and_scale(axes: Axes, picture: Picture, weights: Float[np.ndarray, "h w"]) -> None:
    """Draws weights over the picture, on a scale of their own with its upper end written below."""
    heat(axes, picture, weights, weights.max())
    note = dict(transform=axes.transAxes, ha="center", va="top", fontsize=7, color=INK)
    axes.text(0.5, -0.02, f"largest {weights.max():.2%}", **note)


def heat(axes: Axes, picture: Picture, weights: Float[np.ndarray, "h w"], largest: float) -> None:
    """Draws weights as a heat map over the picture in grey."""
    height, width, _ = picture.shape
    show(axes, picture.mean(-1, keepdims=True).repeat(3, -1).astype(np.uint8))
    extent = (-0.5, width - 0.5, height - 0.5, -0.5)
    axes.imshow(weights, extent=extent, cmap=HEAT, vmin=0, vmax=largest, alpha=_OPACITY)


def name_row(axes: Axes, name: str) -> None:
    """Writes a name to the left of the first axes of a row."""
    axes.set_axis_on()
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    axes.set_ylabel(name, fontsize=8)


def heat_bar(figure: Figure) -> None:
    """Adds the colour bar of the heat maps."""
    shrink = min(1, SIDE / figure.get_figheight())
    bar = figure.colorbar(
        ScalarMappable(cmap=HEAT),
        ax=figure.axes,
        shrink=shrink,
        anchor=(0, 1),
        pad=0.01,
        aspect=12,
    )
    bar.set_ticks([0, 1], labels=["0", "largest\nof map"], fontsize=7)
