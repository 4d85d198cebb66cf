"""Compares a run's optical flow model with classical methods, on pairs it was not trained on.

    python -m scripts.compare_flow --workdir=RUN [--checkpoint=best] [--split=test] [--pairs=64]

Methods: no motion at all; Farneback's polynomial expansion and dense inverse search (DIS, Kroeger
et al., 1603.03590) from OpenCV, both with the best of a few settings for each set of pairs; and the
run's model, tile by tile. The metrics are those of the task `optical_flow`, over all pixels whose
flow is known. Whole pairs:

- the first ones of a split of the run's own dataset, without augmentation;
- the motorcycle, a real photo pair of 500x741 pixels with measured flow up to 60 pixels;
- the motorcycle downscaled by the smallest integer factor for which its flow is no longer than that
  of the pairs above, both at the 99th percentile; omitted if that factor is 1.

Prints a table, and writes `pairs.png` and `motorcycle.png` into RUN/comparison/STEP.
"""

import math
import sys
from collections.abc import Sequence
from pathlib import Path

if not __package__:  # Run as a file: imports start at the repository's root.
    sys.path[0] = str(Path(__file__).parents[1])

from absl import flags
from ml_collections import ConfigDict
from tqdm import tqdm

from perceiver_io.config import files
from perceiver_io.data.flow.motorcycle import Motorcycle
from perceiver_io.data.flow.pair import FlowPair
from perceiver_io.errors import UserError
from perceiver_io.runtime import prediction, program, setup, weights
from perceiver_io.tasks.task import Task
from perceiver_io.training.disk import disk_errors_explained, make_workdir
from perceiver_io.training.logging import save_figure
from scripts._flow_comparison import CLASSICAL, PERCENTILE, apply, longest, reduced, table
from scripts._flow_figure import draw

WORKDIR = flags.DEFINE_string("workdir", None, "Run folder.", required=True)
CHECKPOINT = flags.DEFINE_string("checkpoint", "best", "best, latest, or a step.")
SPLIT = flags.DEFINE_string("split", "test", "Of the run's dataset; not the one it was trained on.")
PAIRS = flags.DEFINE_integer("pairs", 64, "Most pairs to use of the split.", lower_bound=1)

ROWS_OF_FIGURE = 4


def main() -> None:
    """Prints the table and writes the figures."""
    workdir = program.folder(WORKDIR)
    config = files.read_run(workdir)
    if config.task.name != "optical_flow":
        raise UserError(f"--workdir={workdir} is a run of {config.task.name}, not of optical flow.")
    program.start_jax()
    checkpoint = weights.choose_checkpoint(workdir, config, CHECKPOINT.value)
    folder = workdir / "comparison" / checkpoint.name
    make_workdir(folder)
    methods = {**CLASSICAL, "this model": (prediction.load(checkpoint).tiled(),)}
    task = setup.build_task(config)
    sets = pair_sets(config, task)
    compared = {name: apply(task, methods, pairs) for name, pairs in sets.items()}
    print(f"checkpoint {checkpoint}\n\n{table(task, compared)}\n\nfigures in {folder}")
    own, *motorcycles = compared.values()
    with disk_errors_explained(folder):
        save_figure(draw(own[:ROWS_OF_FIGURE]), folder, "pairs")
        save_figure(draw([pair for pairs in motorcycles for pair in pairs]), folder, "motorcycle")


def pair_sets(config: ConfigDict, task: Task) -> dict[str, list[FlowPair]]:
    """Sets of pairs by description, beginning with those of the run's dataset."""
    dataset = setup.build_dataset(config, task)
    count = min(PAIRS.value, dataset.num_examples(SPLIT.value))
    source = dataset.source(SPLIT.value)
    pairs = [source[index] for index in tqdm(range(count), "reading", leave=False)]
    if not any(pair.flow.valid.any() for pair in pairs):
        raise UserError(
            f"The true flow of --split={SPLIT.value} is not known, so nothing can be compared "
            "with it: choose another split."
        )
    whole = motorcycle()
    factor = math.ceil(longest([whole]) / max(longest(pairs), 1))
    sets = {describe(f"{count} pairs of {config.data.name}, {SPLIT.value}", pairs): pairs}
    sets[describe("motorcycle", [whole])] = [whole]
    if factor > 1:
        small = reduced(whole, factor)
        sets[describe(f"motorcycle, {factor} times smaller", [small])] = [small]
    return sets


def motorcycle() -> FlowPair:
    """The motorcycle pair."""
    return Motorcycle()("test")[0]


def describe(name: str, pairs: Sequence[FlowPair]) -> str:
    """The name with the size of the first pair and the length of the flow."""
    size = "x".join(map(str, pairs[0].size))
    return (
        f"{name} ({size} pixels, flow up to {longest(pairs):.1f} at the {PERCENTILE}th percentile)"
    )


if __name__ == "__main__":
    program.run(main, WORKDIR)
