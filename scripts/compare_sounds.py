"""Tags of the bundled sounds: Perceiver IO against logistic regression on mean mel features.

    python -m scripts.compare_sounds --workdir=DIR [--preset=small] [--folds=5] [--seeds=3]
        [--config.any.key=VALUE]

Trains a preset of configs/audioset.py on bundled sounds with each fold as the test split and each
seed. The checkpoint, and the regularisation of the logistic regression, are chosen on the
validation split; both are measured on the test split, and averaged over the folds.

Runs are stored in DIR; a repeated command goes on where it stopped. Prints the table, and writes it
to DIR/comparison.md.
"""

import sys
from pathlib import Path

if not __package__:  # Run as a file: imports start at the repository's root.
    sys.path[0] = str(Path(__file__).parents[1])

import numpy as np
from absl import flags

from perceiver_io.runtime import configuration, program, setup
from perceiver_io.training.disk import write_whole
from scripts import _sound_baseline
from scripts._seeds import as_cell, finished_runs, on_test_split

WORKDIR = flags.DEFINE_string("workdir", None, "Folder of all runs.", required=True)
PRESET = flags.DEFINE_enum("preset", "small", ["small", "mixtures"], "The preset.")
FOLDS = flags.DEFINE_integer("folds", 5, "Number of folds.", lower_bound=1, upper_bound=5)
SEEDS = flags.DEFINE_integer("seeds", 3, "Number of runs for each fold.", lower_bound=1)

_METRICS = ("top_1", "map", "auc", "d_prime")


def main() -> None:
    """Trains what is missing, prints the table and writes it."""
    program.start_jax()
    workdir = program.folder(WORKDIR)
    experiment = f"configs/audioset.py:{PRESET.value}"
    config = configuration.load(experiment, program.overrides())
    rows = {"logistic regression": [averaged(baseline(config, fold) for fold in folds())]}
    of_seeds = rows["Perceiver IO"] = []
    for seed in range(SEEDS.value):
        runs = [finished(experiment, fold, seed, workdir) for fold in folds()]
        of_seeds.append(averaged(on_test_split(run, evaluator(config)) for run in runs))
        write_whole(workdir / "comparison.md", as_table(rows) + "\n")
    print(as_table(rows))


def folds() -> range:
    """The folds that are test splits."""
    return range(FOLDS.value)


def baseline(config, fold: int) -> dict[str, float]:
    """Metrics of the logistic regression on a fold."""
    config.data.fold = fold
    dataset = setup.build_dataset(config, setup.build_task(config))
    return _sound_baseline.on_test_split(dataset, config.task.stretches)


def finished(experiment: str, fold: int, seed: int, workdir: Path) -> Path:
    """The folder of a finished run, which is trained or resumed if it is not."""
    overrides = [*program.overrides(), f"--config.data.fold={fold}"]
    (run,) = finished_runs(experiment, [seed], overrides, workdir / f"fold_{fold}")
    return run


def evaluator(config) -> str:
    """How the test split is evaluated: with as many stretches as the baseline hears."""
    stretches = config.task.stretches
    return f"test_{stretches}_stretches" if stretches > 1 else "test"


def averaged(found) -> dict[str, float]:
    """The mean of each metric over the folds."""
    found = list(found)
    return {name: float(np.mean([metrics[name] for metrics in found])) for name in _METRICS}


def as_table(rows: dict[str, list[dict[str, float]]]) -> str:
    """Mean and standard deviation over seeds, as a Markdown table."""
    lines = [f"| | {' | '.join(_METRICS)} |", "|---" * (1 + len(_METRICS)) + "|"]
    for name, found in rows.items():
        cells = [as_cell([metrics[metric] for metrics in found], 3) for metric in _METRICS]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    program.run(main, WORKDIR)
