"""Commands of StarCraft II players: Perceiver IO, a Transformer, and baselines without a model.

    python -m scripts.compare_entity_encoders --workdir=DIR [--size=small] [--seeds=3]
        [--config.any.key=VALUE]

Trains the two encoders of configs/starcraft.py, `small` and `small_transformer` or, with
--size=paper, `perceiver_io` and `transformer`, one seed after the other. Checkpoints are chosen on
the validation split, and measured on the test split, which is later in the game. The baselines see
the same examples; what they call frequent is so in the training split.

Runs are stored in DIR; a repeated command goes on where it stopped. Prints the table; writes
DIR/comparison.md and comparison.png after each seed.
"""

import sys
from pathlib import Path

if not __package__:  # Run as a file: imports start at the repository's root.
    sys.path[0] = str(Path(__file__).parents[1])

from absl import flags

from perceiver_io.runtime import configuration, program, setup
from perceiver_io.training.disk import write_whole
from perceiver_io.training.logging import save_figure
from scripts import _command_baselines
from scripts._entity_comparison import as_table, draw
from scripts._seeds import finished_runs, on_test_split

WORKDIR = flags.DEFINE_string("workdir", None, "Folder of all runs.", required=True)
SIZE = flags.DEFINE_enum("size", "small", ["small", "paper"], "Of the encoders.")
SEEDS = flags.DEFINE_integer("seeds", 3, "Number of runs of each kind.", lower_bound=1)

CONFIG = "configs/starcraft.py"
PRESETS = {
    "small": {"Perceiver IO": "small", "Transformer": "small_transformer"},
    "paper": {"Perceiver IO": "perceiver_io", "Transformer": "transformer"},
}


def main() -> None:
    """Trains what is missing, prints the table and writes table and figure."""
    program.start_jax()
    workdir = program.folder(WORKDIR)
    presets = PRESETS[SIZE.value]
    config = configuration.load(f"{CONFIG}:{presets['Transformer']}", program.overrides())
    dataset = setup.build_dataset(config, setup.build_task(config))
    baselines = _command_baselines.on_split(dataset, "test")
    scores = {name: [] for name in presets} | {name: [x] for name, x in baselines.items()}
    for seed in range(SEEDS.value):
        for name, preset in presets.items():
            (run,) = finished_runs(f"{CONFIG}:{preset}", [seed], program.overrides(), workdir)
            scores[name].append(on_test_split(run))
        write_whole(workdir / "comparison.md", as_table(scores) + "\n")
        save_figure(draw(scores), workdir, "comparison")
    print(as_table(scores))


if __name__ == "__main__":
    program.run(main, WORKDIR)
