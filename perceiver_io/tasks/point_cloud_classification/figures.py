"""Figures of point clouds and their predicted classes."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from perceiver_io.data.pipeline.listing import printable
from perceiver_io.data.points.clouds import Up
from perceiver_io.tasks.class_figures import answer_grid, draw_bars, write_answer

# From where clouds are seen, in degrees.
_AROUND, _ABOVE = 35, 25


def classified_clouds(
    clouds: Sequence[Float[np.ndarray, "P 3"]],
    up: Up,
    labels: Int[np.ndarray, " N"],
    probabilities: Float[np.ndarray, "N K"],
    class_names: Sequence[str],
    columns: int = 6,
) -> Figure:
    """A grid of clouds, each with its predicted class, the probability, and whether it is right.

    Args:
        clouds: the points.
        up: the axis that points upwards.
        labels: the true classes.
        probabilities: the model's probabilities.
        class_names: the names of the classes.
        columns: clouds per row.
    """
    figure, grid = answer_grid(len(clouds), columns)
    for axes, cloud, label, probability in zip(grid, clouds, labels, probabilities, strict=True):
        show_cloud(axes, cloud, up, size=1.5)
        write_answer(axes, int(label), probability, class_names)
    return figure


def classified_cloud(
    cloud: Float[np.ndarray, "P 3"],
    up: Up,
    title: str,
    probabilities: Sequence[tuple[str, float]],
) -> Figure:
    """A cloud beside bars of probabilities.

    Args:
        cloud: the points that the model sees.
        up: the axis that points upwards.
        title: the cloud's name.
        probabilities: (class name, probability), in descending order of probability.
    """
    rows = max(3.2, 0.55 * len(probabilities))
    figure = Figure(figsize=(rows + 5, rows + 0.4), layout="constrained")
    picture, bars = figure.subplots(1, 2, width_ratios=[rows, 5])
    picture.set_axis_off()
    show_cloud(picture, cloud, up, size=4)
    picture.set_title(printable(title), fontsize=10, parse_math=False)
    draw_bars(bars, probabilities)
    return figure


def show_cloud(axes: Axes, cloud: Float[np.ndarray, "P 3"], up: Up, size: float) -> None:
    """Draws a cloud as dots of this size, the nearer the darker."""
    across, height, depth = view(cloud, up)
    order = np.argsort(-depth)
    axes.scatter(
        across[order], height[order], c=depth[order], s=size, cmap="viridis", vmin=-1, vmax=1.2,
        linewidths=0,
    )  # fmt: skip
    axes.set_aspect("equal")


def view(cloud: Float[np.ndarray, "P 3"], up: Up) -> Float[np.ndarray, "3 P"]:
    """Orthographic projection: to the right, upwards, and away from the viewer."""
    x, y, z = cloud.T
    if up == "y":
        y, z = -z, y
    around, above = np.deg2rad((_AROUND, _ABOVE))
    right = np.cos(around) * x + np.sin(around) * y
    away = np.cos(around) * y - np.sin(around) * x
    return np.stack(
        [right, np.cos(above) * z + np.sin(above) * away, np.cos(above) * away - np.sin(above) * z]
    )
