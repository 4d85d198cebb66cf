"""What permuted pixels cost Perceiver IO, ViT and a ConvNet: Perceiver, section 4.1, in small.

    python -m scripts.prepare_fashion_mnist --output=data/fashion_mnist
    python -m scripts.compare_permuted --workdir=DIR [--seeds=3] [--config.any.key=VALUE]

Trains all presets of configs/permuted.py, one seed after the other. The checkpoint is chosen on the
validation split, and measured on the test split.

Runs are stored in DIR; a repeated command goes on where it stopped. Prints the table; writes
DIR/comparison.md and comparison.png after each seed.
"""

import sys
from pathlib import Path

if not __package__:  # Run as a file: imports start at the repository's root.
    sys.path[0] = str(Path(__file__).parents[1])

from absl import flags

from perceiver_io.runtime import program
from perceiver_io.training.disk import write_whole
from perceiver_io.training.logging import save_figure
from scripts._permuted_comparison import MODELS, ORDERS, as_table, draw
from scripts._seeds import finished_runs, on_test_split

WORKDIR = flags.DEFINE_string("workdir", None, "Folder of all runs.", required=True)
SEEDS = flags.DEFINE_integer("seeds", 3, "Number of runs of each kind.", lower_bound=1)

SUFFIXES = dict(zip(ORDERS, ("", "_permuted"), strict=True))


def main() -> None:
    """Trains what is missing, prints the table and writes table and figure."""
    program.start_jax()
    workdir = program.folder(WORKDIR)
    scores = {name: {order: [] for order in ORDERS} for name in MODELS.values()}
    for seed in range(SEEDS.value):
        for model, name in MODELS.items():
            for order, suffix in SUFFIXES.items():
                experiment = f"configs/permuted.py:{model}{suffix}"
                (run,) = finished_runs(experiment, [seed], program.overrides(), workdir)
                scores[name][order].append(on_test_split(run)["top_1"])
        write_whole(workdir / "comparison.md", as_table(scores) + "\n")
        save_figure(draw(scores), workdir, "comparison")
    print(as_table(scores))


if __name__ == "__main__":
    program.run(main, WORKDIR)
