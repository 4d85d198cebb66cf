"""The table and the figure of `scripts.compare_text_tasks`."""

from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from scripts._seeds import as_cell, deviation


class SingleTask(NamedTuple):
    """A task by itself: the preset, and its metric."""

    preset: str
    metric: str


TASKS = {
    "movies": SingleTask("classification", "accuracy"),
    "paraphrases": SingleTask("pairs", "accuracy"),
    "sts": SingleTask("regression", "spearman"),
}
# By method and task, the result of each seed.
Scores = dict[str, dict[str, list[float]]]


def as_table(scores: Scores) -> str:
    """Mean and standard deviation over seeds, as a Markdown table."""
    titles = [f"{name}, {task.metric}" for name, task in TASKS.items()]
    lines = [f"| | {' | '.join(titles)} |", "|---" * (1 + len(titles)) + "|"]
    for method, found in scores.items():
        cells = [as_cell(found.get(name, []), 3) for name in TASKS]
        lines.append(f"| {method} | {' | '.join(cells)} |")
    return "\n".join(lines)


def draw(scores: Scores) -> Figure:
    """A group of bars for each task; lines are standard deviations over seeds."""
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    width = 0.8 / len(scores)
    for number, (method, found) in enumerate(scores.items()):
        places = [place for place, name in enumerate(TASKS) if name in found]
        values = [found[name] for name in TASKS if name in found]
        axes.bar(
            np.array(places) + (number + 0.5) * width - 0.4,
            [np.mean(one) for one in values],
            0.9 * width,
            yerr=[deviation(one) for one in values],
            label=method,
        )
    axes.set_xticks(
        range(len(TASKS)), [f"{name}\n{task.metric}, test" for name, task in TASKS.items()]
    )
    axes.set_ylim(0, 1)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=4, fontsize=8)
    return figure
