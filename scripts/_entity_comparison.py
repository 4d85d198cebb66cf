"""The table and the figure of `scripts.compare_entity_encoders`."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from scripts._seeds import as_cell, deviation

METRICS = {
    "action_accuracy": "action type",
    "exact_match": "selection, exactly",
    "iou": "selection, IoU",
    "f1": "selection, F1",
    "target_accuracy": "target unit",
}
# By method, the metrics of each seed, of which a baseline has only one.
Scores = Mapping[str, Sequence[Mapping[str, float]]]


def as_table(scores: Scores) -> str:
    """Mean and standard deviation over seeds, in percent, as a Markdown table."""
    lines = [f"| | {' | '.join(METRICS.values())} |", "|---" * (1 + len(METRICS)) + "|"]
    for method, found in scores.items():
        cells = [as_cell(_values(found, name), 1) for name in METRICS]
        lines.append(f"| {method} | {' | '.join(cells)} |")
    return "\n".join(lines)


def draw(scores: Scores) -> Figure:
    """Means by metric; lines are standard deviations over seeds."""
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    axes = figure.subplots()
    for number, (method, found) in enumerate(scores.items()):
        shown = {place: _values(found, name) for place, name in enumerate(METRICS)}
        shown = {place: values for place, values in shown.items() if values}
        shift = 0.8 * (number + 0.5) / len(scores) - 0.4
        axes.errorbar(
            np.array(list(shown)) + shift,
            [np.mean(values) for values in shown.values()],
            [deviation(values) for values in shown.values()],
            fmt="o",
            capsize=3,
            label=method,
        )
    axes.set_xticks(range(len(METRICS)), list(METRICS.values()))
    axes.yaxis.set_major_formatter(PercentFormatter(100))
    axes.set_ylim(0, 100)
    axes.set_ylabel("test examples")
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=3, fontsize=8)
    return figure


def _values(found: Sequence[Mapping[str, float]], name: str) -> list[float]:
    """In percent."""
    return [100 * metrics[name] for metrics in found if name in metrics]
