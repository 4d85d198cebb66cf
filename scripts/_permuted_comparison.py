"""The table and the figure of `scripts.compare_permuted`."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scripts._seeds import as_cell, deviation

ORDERS = ("raw", "permuted")
MODELS = {"perceiver_io": "Perceiver IO", "vit": "ViT", "convnet": "ConvNet"}
# Top-1 accuracies of Perceiver's table 2, on ImageNet.
PAPER = {
    "Perceiver": {"raw": [0.780], "permuted": [0.780]},
    "ViT-B-16": {"raw": [0.767], "permuted": [0.617]},
    "ResNet-50": {"raw": [0.735], "permuted": [0.394]},
}
# By model and order of pixels, the accuracy of each seed.
Scores = Mapping[str, Mapping[str, Sequence[float]]]


def as_table(scores: Scores) -> str:
    """Mean and standard deviation over seeds, and what permuting costs, as a Markdown table."""
    lines = ["| | raw | permuted | difference |", "|---|---|---|---|"]
    for model, found in scores.items():
        raw, permuted = ([100 * x for x in found.get(order, ())] for order in ORDERS)
        lost = f"{np.mean(permuted) - np.mean(raw):+.1f}" if raw and permuted else ""
        lines.append(f"| {model} | {as_cell(raw, 1)} | {as_cell(permuted, 1)} | {lost} |")
    return "\n".join(lines)


def draw(scores: Scores) -> Figure:
    """Two bars for each model, beside the paper's; lines are standard deviations over seeds."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    here, paper = figure.subplots(1, 2, sharey=True)
    _bars(here, scores, "Fashion-MNIST, small models, measured")
    _bars(paper, PAPER, "ImageNet, as the Perceiver paper reports")
    here.set_ylabel("test accuracy")
    here.set_ylim(0, 1)
    figure.legend(*paper.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def _bars(axes: Axes, scores: Scores, title: str) -> None:
    for number, order in enumerate(ORDERS):
        shown = {place: x[order] for place, x in enumerate(scores.values()) if x.get(order)}
        bars = axes.bar(
            np.array(list(shown), float) + 0.4 * number - 0.2,
            [np.mean(values) for values in shown.values()],
            0.38,
            yerr=[deviation(values) for values in shown.values()],
            label=f"{order} pixels",
        )
        axes.bar_label(bars, fmt=lambda value: f"{value:.1%}", fontsize=8, label_type="center")
    axes.set_xticks(range(len(scores)), list(scores))
    axes.set_title(title, fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
