"""Figures shared by tasks. They are drawn without pyplot, so that none is ever left open."""

from collections.abc import Sequence

import numpy as np
import sklearn.metrics
from jaxtyping import Float, Int, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure

RIGHT, WRONG = "#1a7f37", "#c62828"


def confusion_matrix(
    labels: Int[np.ndarray, " N"], predictions: Int[np.ndarray, " N"], class_names: Sequence[str]
) -> Figure:
    """The confusion matrix: counts in the cells, shades by the share of the true class.

    Meant for up to about 20 classes.
    """
    num_classes = len(class_names)
    counts = sklearn.metrics.confusion_matrix(labels, predictions, labels=range(num_classes))
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    figure = Figure(figsize=(2.5 + 0.5 * num_classes, 2 + 0.5 * num_classes), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(counts):
        if count:
            color = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, str(count), ha="center", va="center", color=color, fontsize=9)
    ticks = [_shorten(name) for name in class_names]
    slanted = max(map(len, ticks)) > 3
    axes.set_xticks(
        range(num_classes),
        ticks,
        rotation=45 if slanted else 0,
        ha="right" if slanted else "center",
        rotation_mode="anchor",
    )
    axes.set_yticks(range(num_classes), ticks)
    axes.set(xlabel="predicted class", ylabel="true class")
    axes.set_title(_accuracy_title(labels, predictions), fontsize=10)
    figure.colorbar(image, label="share of the true class", shrink=0.8)
    return figure


def confused_pairs(
    labels: Int[np.ndarray, " N"],
    predictions: Int[np.ndarray, " N"],
    class_names: Sequence[str],
    most: int = 20,
) -> Figure:
    """The pairs of a true class and a wrong answer that occur most often, as bars."""
    wrong = labels != predictions
    pairs, counts = np.unique(
        np.stack([labels[wrong], predictions[wrong]]), axis=1, return_counts=True
    )
    order = np.argsort(-counts, kind="stable")[:most]
    names = [
        f"{_shorten(class_names[true])} \N{RIGHTWARDS ARROW} {_shorten(class_names[taken])}"
        for true, taken in pairs[:, order].T
    ]
    figure = Figure(figsize=(8, 1.2 + 0.28 * max(len(names), 1)), layout="constrained")
    axes = figure.subplots()
    bars = axes.barh(names, counts[order], color=WRONG)
    axes.bar_label(bars, padding=3)
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)
    axes.set(xlabel="examples", ylabel="true \N{RIGHTWARDS ARROW} predicted")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_title(_accuracy_title(labels, predictions), fontsize=10)
    if not names:
        axes.set_axis_off()
    return figure


def classified_images(
    images: Sequence[UInt8[np.ndarray, "H W C"]],
    labels: Int[np.ndarray, " N"],
    probabilities: Float[np.ndarray, "N K"],
    class_names: Sequence[str],
    columns: int = 6,
) -> Figure:
    """A grid of images, each with the most probable class, its probability, and right or wrong.

    Args:
        images: values from 0 to 255.
        labels: the true classes.
        probabilities: the model's probabilities.
        class_names: the names of the classes.
        columns: images side by side.
    """
    rows = max(-(-len(images) // columns), 1)
    figure = Figure(figsize=(1.6 * columns, 1.95 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid:
        axes.set_axis_off()
    for axes, image, label, probability in zip(grid, images, labels, probabilities, strict=False):
        _draw_answer(axes, image, int(label), probability, class_names)
    return figure


def _draw_answer(
    axes: Axes,
    image: UInt8[np.ndarray, "H W C"],
    label: int,
    probability: Float[np.ndarray, " K"],
    class_names: Sequence[str],
) -> None:
    answer = int(probability.argmax())
    right = answer == label
    mark = "\N{CHECK MARK}" if right else "\N{BALLOT X}"
    caption = f"{mark} {_shorten(class_names[answer])}, {probability[answer]:.0%}"
    if not right:
        caption += f"\nis {_shorten(class_names[label])}"
    axes.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    axes.set_title(caption, color=RIGHT if right else WRONG, fontsize=9, pad=3)


def _accuracy_title(labels: np.ndarray, predictions: np.ndarray) -> str:
    right = int((labels == predictions).sum())
    return f"{right} of {len(labels)} right ({right / max(len(labels), 1):.1%})"


def _shorten(name: str, width: int = 22) -> str:
    return name if len(name) <= width else name[: width - 1] + "\N{HORIZONTAL ELLIPSIS}"
