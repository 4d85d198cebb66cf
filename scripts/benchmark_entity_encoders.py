"""What the entity encoders of configs/starcraft.py cost, for more and more units.

    python -m scripts.benchmark_entity_encoders [--sizes=128,512,2048,8192] [--batch_size=1]
        [--repeats=3] [--output=docs/entity_encoders.png] [--config.any.key=VALUE]

Prints parameters and FLOPs of `perceiver_io`, `perceiver_io_64` and `transformer` at 512 units in
the textbook form, beside those of the paper; then the time and the temporary memory of a forward
pass and of a training step of `perceiver_io` and `transformer` as they run, and draws them. Time is
the median after a first run; memory is what the compiled program allocates besides its arguments
and results.
"""

import sys
from pathlib import Path

if not __package__:  # Run as a file: imports start at the repository's root.
    sys.path[0] = str(Path(__file__).parents[1])

import jax
from absl import flags
from tqdm import tqdm

from perceiver_io.runtime import configuration, program
from perceiver_io.tasks.figures import save
from scripts._entity_costs import as_table, draw, measured, parameters_and_flops

SIZES = flags.DEFINE_list("sizes", ["128", "512", "2048", "8192"], "Numbers of units.")
BATCH_SIZE = flags.DEFINE_integer("batch_size", 1, "Examples at a time.", lower_bound=1)
REPEATS = flags.DEFINE_integer("repeats", 3, "Timed runs.", lower_bound=1)
OUTPUT = flags.DEFINE_string("output", "docs/entity_encoders.png", "The figure.")

COUNTED = {"perceiver_io": 0.93, "perceiver_io_64": None, "transformer": 3.3}
"""The paper's GFLOPs."""
TIMED = {"Perceiver IO": "perceiver_io", "Transformer": "transformer"}
UNITS = 512


def main() -> None:
    """Counts, times, prints and draws."""
    program.start_jax()
    for preset, paper in COUNTED.items():
        parameters, flops = parameters_and_flops(section(preset), UNITS)
        beside = "" if paper is None else f" (paper: {paper})"
        print(f"{preset:16}{parameters:>10,} parameters{flops / 1e9:7.3f} GFLOPs{beside}")
    sizes = [int(size) for size in SIZES.value]
    costs = {name: {} for name in TIMED}
    cases = [(size, name) for size in sizes for name in TIMED]
    for size, name in tqdm(cases, "sizes", leave=False):
        costs[name][size] = measured(section(TIMED[name]), size, BATCH_SIZE.value, REPEATS.value)
    device = jax.devices()[0].device_kind
    print(f"\nbatches of {BATCH_SIZE.value}, {device}\n\n{as_table(costs)}")
    save(draw(costs, f"batches of {BATCH_SIZE.value}, {device}"), Path(OUTPUT.value))


def section(preset: str) -> dict:
    """The model section of a preset."""
    config = configuration.load(f"configs/starcraft.py:{preset}", program.overrides())
    return config.model.to_dict()


if __name__ == "__main__":
    program.run(main)
