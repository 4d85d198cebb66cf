"""The table and the figure of `scripts.compare_layouts`."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from perceiver_io.tasks.figures import ACCENT
from scripts._seeds import as_cell, deviation

# By layout, as the paper writes it.
LAYOUTS = {
    "c_c_c_c": "C-C-C-C",
    "c_c_c_t": "C-C-C-T",
    "c_c_t_t": "C-C-T-T",
    "c_t_t_t": "C-T-T-T",
    "vit_rel": "ViT_REL",
}
TRANSFERRED = ("c_c_t_t", "c_t_t_t")
STUDIES = ("Fashion-MNIST", "photos", "photos, after Fashion-MNIST")


class Score(NamedTuple):
    """The loss of the last training steps, and the accuracy on the test split."""

    training_loss: float
    accuracy: float


# By study and layout, the score of each seed.
Scores = Mapping[str, Mapping[str, Sequence[Score]]]


def as_table(scores: Scores, counts: Mapping[str, int]) -> str:
    """Parameters; mean and deviation of losses and accuracies in percent, as a Markdown table."""
    header = "".join(f" {study}: loss | accuracy |" for study in STUDIES)
    lines = [f"| | parameters |{header}", "|---|---|" + "---|---|" * len(STUDIES)]
    for layout, name in LAYOUTS.items():
        cells = [name, f"{counts[layout]:,}"]
        for study in STUDIES:
            found = scores[study].get(layout, ())
            cells.append(as_cell([score.training_loss for score in found], 3))
            cells.append(as_cell([100 * score.accuracy for score in found], 1))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def draw(scores: Scores) -> Figure:
    """Test accuracies, by study; lines are standard deviations over seeds."""
    figure = Figure(figsize=(10, 3.4), layout="constrained")
    shown = [study for study in STUDIES if any(scores[study].values())]
    for axes, study in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
        _bars(axes, {LAYOUTS[name]: found for name, found in scores[study].items() if found})
        axes.set_title(study, fontsize=10)
    figure.supylabel("test accuracy", fontsize=10)
    return figure


def _bars(axes: Axes, scores: Mapping[str, Sequence[Score]]) -> None:
    accuracies = [[score.accuracy for score in found] for found in scores.values()]
    means, spreads = [np.mean(x) for x in accuracies], [deviation(x) for x in accuracies]
    bars = axes.bar(list(scores), means, 0.6, yerr=spreads, color=ACCENT)
    axes.bar_label(bars, fmt=lambda value: f"{value:.1%}", fontsize=8, label_type="center")
    # Differences are small beside the whole; the axis starts where they can be seen.
    lowest = min(np.subtract(means, spreads))
    axes.set_ylim(max(0, lowest - 0.5 * (1 - lowest)), None)
    axes.tick_params(axis="x", labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
