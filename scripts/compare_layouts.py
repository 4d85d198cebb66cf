"""Which stages of CoAtNet should convolve and which attend: CoAtNet, section 2.2, in small.

    python -m scripts.prepare_fashion_mnist --output=data/fashion_mnist
    python -m scripts.compare_layouts --workdir=DIR [--seeds=3] [--config.any.key=VALUE]

Trains all presets of configs/layouts.py, one seed after the other; then C-C-T-T and C-T-T-T on the
photographs once more, from the weights that the same seed has learned on Fashion-MNIST. Checkpoints
are chosen on the validation split, and measured on the test split.

Runs are stored in DIR; a repeated command goes on where it stopped. Prints the table; writes
DIR/comparison.md and comparison.png after each seed.
"""

import sys
from pathlib import Path

if not __package__:  # Run as a file: imports start at the repository's root.
    sys.path[0] = str(Path(__file__).parents[1])

import jax
from absl import flags

from perceiver_io.runtime import configuration, program, setup
from perceiver_io.training.disk import write_whole
from perceiver_io.training.logging import read_records, save_figure
from scripts._layout_comparison import LAYOUTS, STUDIES, TRANSFERRED, Score, as_table, draw
from scripts._seeds import finished_runs, on_test_split

WORKDIR = flags.DEFINE_string("workdir", None, "Folder of all runs.", required=True)
SEEDS = flags.DEFINE_integer("seeds", 3, "Number of runs of each kind.", lower_bound=1)

CONFIG = "configs/layouts.py"
WITHOUT_HEAD = "--config.init_prefixes=('!logits',)"


def main() -> None:
    """Trains what is missing, prints the table and writes table and figure."""
    program.start_jax()
    workdir = program.folder(WORKDIR)
    counts = {layout: num_parameters(layout) for layout in LAYOUTS}
    scores = {study: {layout: [] for layout in LAYOUTS} for study in STUDIES}
    clothes, photos, transferred = (scores[study] for study in STUDIES)
    for seed in range(SEEDS.value):
        for layout in LAYOUTS:
            pretrained = finished(layout, seed, workdir)
            clothes[layout].append(score(pretrained))
            photos[layout].append(score(finished(f"{layout}_photos", seed, workdir)))
            if layout in TRANSFERRED:
                start = (f"--config.init_from={pretrained}", WITHOUT_HEAD)
                run = finished(f"{layout}_photos", seed, workdir / "transfer", *start)
                transferred[layout].append(score(run))
        write_whole(workdir / "comparison.md", as_table(scores, counts) + "\n")
        save_figure(draw(scores), workdir, "comparison")
    print(as_table(scores, counts))


def num_parameters(layout: str) -> int:
    """The number of parameters of a preset's model."""
    config = configuration.load(f"{CONFIG}:{layout}", program.overrides())
    params, _ = setup.build_parts(config).model.shapes()
    return sum(x.size for x in jax.tree.leaves(params))


def finished(preset: str, seed: int, workdir: Path, *settings: str) -> Path:
    """The folder of a finished run."""
    overrides = [*program.overrides(), *settings]
    (run,) = finished_runs(f"{CONFIG}:{preset}", [seed], overrides, workdir)
    return run


def score(run: Path) -> Score:
    """The last training loss that a run has recorded, and its best checkpoint's test accuracy."""
    records = [x for x in read_records(run / "metrics.jsonl") if x["split"] == "train"]
    return Score(records[-1]["metrics"]["loss"], on_test_split(run)["top_1"])


if __name__ == "__main__":
    program.run(main, WORKDIR)
