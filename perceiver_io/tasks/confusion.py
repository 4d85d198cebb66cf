"""Figures of which classes are taken for which."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int
from matplotlib.figure import Figure

from perceiver_io.tasks.figures import WRONG

# With more classes, per-class accuracies are noisy and a confusion matrix is illegible.
MAX_LISTED_CLASSES = 20


def confusion(
    labels: Int[np.ndarray, " N"], predictions: Int[np.ndarray, " N"], class_names: Sequence[str]
) -> Figure:
    """The confusion matrix for up to `MAX_LISTED_CLASSES` classes, else the confused pairs."""
    draw = confusion_matrix if len(class_names) <= MAX_LISTED_CLASSES else confused_pairs
    return draw(labels, predictions, class_names)


def confusion_matrix(
    labels: Int[np.ndarray, " N"], predictions: Int[np.ndarray, " N"], class_names: Sequence[str]
) -> Figure:
    """The confusion matrix: counts as numbers, shaded by the fraction of the true class.

    Meant for up to about 20 classes.
    """
    num_classes = len(class_names)
    counts = np.zeros((num_classes, num_classes), int)
    np.add.at(counts, (labels, predictions), 1)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    figure = Figure(figsize=(2.5 + 0.5 * num_classes, 2 + 0.5 * num_classes), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(counts):
        if count:
            color = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, str(count), ha="center", va="center", color=color, fontsize=9)
    ticks = [short_name(name) for name in class_names]
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
    figure.colorbar(image, label="fraction of the true class", shrink=0.8)
    return figure


def confused_pairs(
    labels: Int[np.ndarray, " N"],
    predictions: Int[np.ndarray, " N"],
    class_names: Sequence[str],
    most: int = 20,
) -> Figure:
    """The most frequent pairs of a true and a wrongly predicted class, as bars."""
    wrong = labels != predictions
    pairs, counts = np.unique(
        np.stack([labels[wrong], predictions[wrong]]), axis=1, return_counts=True
    )
    order = np.argsort(-counts, kind="stable")[:most]
    names = [
        f"{short_name(class_names[true])} \N{RIGHTWARDS ARROW} {short_name(class_names[taken])}"
        for true, taken in pairs[:, order].T
    ]
    figure = Figure(figsize=(8, 1.2 + 0.28 * max(len(names), 1)), layout="constrained")
    axes = figure.subplots()
    bars = axes.barh(names, counts[order], color=WRONG)
    axes.bar_label(bars, padding=3)
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)
    axes.set(xlabel="examples", ylabel="true \N{RIGHTWARDS ARROW} predicted")
    axes.xaxis.get_major_locator().set_params(integer=True)  # type: ignore[call-arg]
    axes.set_title(_accuracy_title(labels, predictions), fontsize=10)
    if not names:
        axes.set_axis_off()
    return figure


def _accuracy_title(labels: np.ndarray, predictions: np.ndarray) -> str:
    right = int((labels == predictions).sum())
    return f"{right} of {len(labels)} right ({right / max(len(labels), 1):.1%})"


def short_name(name: str, width: int = 22) -> str:
    """Truncates a long name and escapes dollar signs, which would start mathematics."""
    name = name.replace("$", r"\$")
    return name if len(name) <= width else name[: width - 1] + "\N{HORIZONTAL ELLIPSIS}"
