"""The table and the figure of `scripts.compare_layouts`."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from perceiver_io.tasks.figures import ACCENT, INK
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
CLOTHES, PHOTOS, TRANSFERRED_TO = STUDIES


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
    """Test accuracies by layout; lines are standard deviations over seeds."""
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    clothes, photos = figure.subplots(1, 2, sharey=True)
    _points(clothes, scores[CLOTHES], INK, CLOTHES)
    _points(photos, scores[PHOTOS], INK, "from random weights", -0.2)
    _points(photos, scores[TRANSFERRED_TO], ACCENT, "after Fashion-MNIST", 0.2)
    photos.legend(fontsize=8, loc="lower right")
    for axes, title in ((clothes, CLOTHES), (photos, "photos of fruit")):
        axes.set_xticks(range(len(LAYOUTS)), list(LAYOUTS.values()), fontsize=9)
        axes.set_xlim(-0.6, len(LAYOUTS) - 0.4)
        axes.set_title(title, fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
        axes.yaxis.set_major_formatter(PercentFormatter(1))
    clothes.set_ylabel("test accuracy")
    return figure


def _points(
    axes: Axes,
    scores: Mapping[str, Sequence[Score]],
    color: str,
    label: str,
    shift: float = 0.0,
) -> None:
    """Means with their deviations, `shift` beside the layouts' places."""
    found = {name: [score.accuracy for score in scores.get(name, ())] for name in LAYOUTS}
    shown = {place: values for place, values in enumerate(found.values()) if values}
    places, means = np.array(list(shown), float) + shift, [np.mean(x) for x in shown.values()]
    spreads = [deviation(x) for x in shown.values()]
    axes.errorbar(places, means, spreads, fmt="o", color=color, capsize=3, label=label)
    for place, mean, spread in zip(places, means, spreads, strict=True):
        style = dict(textcoords="offset points", ha="center", fontsize=8, color=color)
        axes.annotate(f"{100 * mean:.1f}", (place, mean + spread), (0, 5), **style)
