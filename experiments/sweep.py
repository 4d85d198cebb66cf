r"""Trains with each combination of some settings, and compares the results.

    python -m experiments.sweep --workdir=DIR --config=configs/glue.py:cola \
        --config=configs/glue.py:mrpc --grid=training.batch_size=16,32,64 \
        --grid=schedule.peak=1e-4,5e-5,2e-5,1e-5 [--config.any.key=VALUE]

Each run is in DIR/EXPERIMENT/SETTINGS; repeating the command continues where it stopped. A run's
score is the best of config.checkpoint.best_metric (its mean, if several splits are evaluated); runs
that differ in the `seed` alone are averaged. The results are in DIR/sweep.csv, sweep.md and
sweep.png, beside those that the config file reports.
"""

from absl import flags

from perceiver_io.runtime import program

CONFIG = flags.DEFINE_multi_string(
    "config", None, "Config file: FILE.py[:PRESET]; repeatable.", required=True
)
WORKDIR = flags.DEFINE_string("workdir", None, "Folder of all runs.", required=True)
GRID = flags.DEFINE_multi_string("grid", [], "Values of a setting: KEY=VALUE,VALUE; repeatable.")


def main() -> None:
    """Trains the runs that are not finished, and prints the table."""
    from perceiver_io.progress import say
    from perceiver_io.runtime import sweep

    grid = sweep.parse_grid(GRID.value)
    program.start_jax()
    workdir = program.folder(WORKDIR)
    results = sweep.sweep(CONFIG.value, grid, program.overrides(), workdir)
    say(sweep.describe(results))
    if not results.is_complete:
        program.end_unfinished()


if __name__ == "__main__":
    program.run(main, CONFIG, WORKDIR)
