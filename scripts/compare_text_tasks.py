r"""What pretraining is worth on the bundled text tasks, and training on several tasks at once.

    python -m scripts.compare_text_tasks --workdir=DIR --weights=WEIGHTS [--seeds=3] \
        [--methods=scratch,single,multitask_query,shared_token,task_token] \
        [--tasks=movies,paraphrases,sts] [--config.any.key=VALUE]

Trains configs/text_file.py on each task: `scratch` from random weights, `single` from those of a
masked language model; the other methods begin with the same weights and learn all tasks at once, in
the paper's three ways, in as many steps as the single tasks together. The checkpoint is chosen on
the validation split, and measured on the test split. Beside them stand the most frequent class and
a linear model of word counts.

Runs are stored in DIR; a repeated command goes on where it stopped. Prints the table; writes
DIR/comparison.md and comparison.png.
"""

import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

if not __package__:  # Run as a file: imports start at the repository's root.
    sys.path[0] = str(Path(__file__).parents[1])

import numpy as np
from absl import flags
from matplotlib.figure import Figure

from perceiver_io.config import files
from perceiver_io.runtime import configuration, evaluation, program, setup, sweep
from perceiver_io.training.disk import write_whole
from perceiver_io.training.logging import save_figure
from scripts import _text_baselines as baselines

WORKDIR = flags.DEFINE_string("workdir", None, "Folder of all runs.", required=True)
WEIGHTS = flags.DEFINE_string("weights", None, "Those to begin with.", required=True)
SEEDS = flags.DEFINE_integer("seeds", 3, "Number of runs of each kind.", lower_bound=1)
METHODS = flags.DEFINE_list(
    "methods",
    ["scratch", "single", "multitask_query", "shared_token", "task_token"],
    "What to train.",
)

SINGLE = flags.DEFINE_list(
    "tasks", ["movies", "paraphrases", "sts"], "Tasks to train by themselves."
)

CONFIG = "configs/text_file.py"
PRETRAINED = ("embeddings", "positions", "encoder", "decoder/cross_attend")


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


def main() -> None:
    """Trains what is missing, prints the table and writes table and figure."""
    program.start_jax()
    workdir = Path(WORKDIR.value).expanduser().absolute()
    scores: Scores = linear_baselines()
    for method in METHODS.value:
        scores[method] = trained(method, workdir / method)
        text = as_table(scores)
        write_whole(workdir / "comparison.md", text + "\n")
        save_figure(draw(scores), workdir, "comparison")
    print(text)


def linear_baselines() -> Scores:
    """The scores of models that are not neural networks."""
    frequent, linear = {}, {}
    for name, task in TASKS.items():
        config = configuration.load(f"{CONFIG}:{task.preset}", program.overrides())
        source = setup.build_dataset(config, setup.build_task(config)).source
        splits = {split: source(split) for split in source.splits}
        if task.metric == "accuracy":
            frequent[name] = [baselines.most_frequent(splits)]
        linear[name] = [baselines.tf_idf(splits, task.metric)]
    return {"most frequent class": frequent, "TF-IDF, linear": linear}


def trained(method: str, folder: Path) -> dict[str, list[float]]:
    """The scores of a method by task, for each seed."""
    overrides = [*program.overrides()]
    if method != "scratch":
        prefixes = PRETRAINED
        if method in ("shared_token", "task_token"):
            prefixes += ("query_positions",)
        overrides += [
            f"{files.OVERRIDE}init_from={WEIGHTS.value}",
            f"{files.OVERRIDE}init_prefixes={prefixes}",
        ]
    if method in ("scratch", "single"):
        return {
            name: [found[task.metric] for found in tested(task.preset, overrides, folder)]
            for name, task in TASKS.items()
            if name in SINGLE.value
        }
    steps = configuration.load(f"{CONFIG}:{method}", overrides).training.steps
    overrides += [f"{files.OVERRIDE}training.steps={len(TASKS) * steps}"]
    found = tested(method, overrides, folder)
    return {
        name: [metrics[f"{name}/{task.metric}"] for metrics in found]
        for name, task in TASKS.items()
    }


def tested(preset: str, overrides: Sequence[str], folder: Path) -> Iterable[Mapping[str, float]]:
    """Metrics on the test split of the best checkpoint of each seed."""
    grid = {"seed": [str(seed) for seed in range(SEEDS.value)]}
    for outcome in sweep.sweep([f"{CONFIG}:{preset}"], grid, overrides, folder).outcomes:
        run = outcome.trial.folder
        subject = evaluation.of_run(run, "best", None, ())
        subject.config.evaluation.splits = ("test",)
        yield evaluation.evaluate(subject, run).summary["metrics"]["test"]


def as_table(scores: Scores) -> str:
    """Mean and standard deviation over seeds, as a Markdown table."""
    titles = [f"{name}, {task.metric}" for name, task in TASKS.items()]
    lines = [f"| | {' | '.join(titles)} |", "|---" * (1 + len(titles)) + "|"]
    for method, found in scores.items():
        cells = [_cell(found.get(name, [])) for name in TASKS]
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
            yerr=[_deviation(one) for one in values],
            label=method,
        )
    axes.set_xticks(
        range(len(TASKS)), [f"{name}\n{task.metric}, test" for name, task in TASKS.items()]
    )
    axes.set_ylim(0, 1)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=4, fontsize=8)
    return figure


def _cell(values: Sequence[float]) -> str:
    if not values:
        return ""
    deviation = f" ± {_deviation(values):.3f}" if len(values) > 1 else ""
    return f"{np.mean(values):.3f}{deviation}"


def _deviation(values: Sequence[float]) -> float:
    return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


if __name__ == "__main__":
    program.run(main, WORKDIR, WEIGHTS)
