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

if not __package__:  # Run as a file: imports start at the repository's root.
    sys.path[0] = str(Path(__file__).parents[1])

from absl import flags

from perceiver_io.config import files
from perceiver_io.config.construct import listing
from perceiver_io.errors import UserError
from perceiver_io.runtime import configuration, program, setup
from perceiver_io.training.disk import write_whole
from perceiver_io.training.logging import save_figure
from scripts import _text_baselines as baselines
from scripts._seeds import finished_runs, on_test_split
from scripts._text_comparison import TASKS, Scores, as_table, draw

WORKDIR = flags.DEFINE_string("workdir", None, "Folder of all runs.", required=True)
WEIGHTS = flags.DEFINE_string("weights", None, "Those to begin with.", required=True)
SEEDS = flags.DEFINE_integer("seeds", 3, "Number of runs of each kind.", lower_bound=1)
ALL_METHODS = ("scratch", "single", "multitask_query", "shared_token", "task_token")
METHODS = flags.DEFINE_list("methods", list(ALL_METHODS), "What to train.")
SINGLE = flags.DEFINE_list("tasks", list(TASKS), "Tasks to train by themselves.")

CONFIG = "configs/text_file.py"
STEPS = f"{files.OVERRIDE}training.steps="
PRETRAINED: tuple[str, ...] = ("embeddings", "positions", "encoder", "decoder/cross_attend")


def main() -> None:
    """Trains what is missing, prints the table and writes table and figure."""
    check_names("methods", METHODS.value, ALL_METHODS)
    check_names("tasks", SINGLE.value, TASKS)
    program.start_jax()
    workdir = program.folder(WORKDIR)
    scores: Scores = linear_baselines()
    for method in METHODS.value:
        scores[method] = trained(method, workdir / method)
        write_whole(workdir / "comparison.md", as_table(scores) + "\n")
        save_figure(draw(scores), workdir, "comparison")
    print(as_table(scores))


def check_names(flag: str, names: Iterable[str], known: Iterable[str]) -> None:
    """Raises UserError for a name that is unknown."""
    for name in names:
        if name not in known:
            raise UserError(f"--{flag} has {name!r}: choose from {listing(known)}.")


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
    overrides = [flag for flag in overrides if not flag.startswith(STEPS)]
    overrides += [f"{STEPS}{len(TASKS) * steps}"]
    found = tested(method, overrides, folder)
    return {
        name: [metrics[f"{name}/{task.metric}"] for metrics in found]
        for name, task in TASKS.items()
    }


def tested(preset: str, overrides: Sequence[str], folder: Path) -> list[Mapping[str, float]]:
    """Metrics on the test split of the best checkpoint of each seed."""
    runs = finished_runs(f"{CONFIG}:{preset}", range(SEEDS.value), overrides, folder)
    return [on_test_split(run) for run in runs]


if __name__ == "__main__":
    program.run(main, WORKDIR, WEIGHTS)
