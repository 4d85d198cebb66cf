"""Times the parts of training optical flow: the input pipeline, and the step at full size.

    python -m scripts.benchmark_flow [--cases=input,step] [--batches=8] [--workers=1,2] [--steps=2]
        [--threads=2] [--config=configs/optical_flow.py:procedural] [--config.any.key=VALUE]

Cases, in float32:

input: pairs of frames per second: whole pairs, which are rendered (or read, with another config),
    augmentation alone if there is any, and training batches. With a single process, "per core" is
    measured by processor time, so that a busy machine matters little; with worker processes it is
    measured by elapsed time, for which the machine must be idle.
step: the training step for one pair, including the optimizer, as configured (attention in chunks of
    keys and queries, folded projections, rematerialised layers) against the plain form, which does
    none of this. Each form is compiled in its own process, and skipped if it needs more temporary
    memory than is free. Peak memory is that of the whole process above its state at rest, with the
    program compiled and parameters and optimizer state in memory. Shares are relative to the rate
    of a product of two large matrices, best of several.
"""

import dataclasses
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

if not __package__:  # Run as a file: imports start at the repository's root.
    sys.path[0] = str(Path(__file__).parents[1])

import numpy as np
from absl import flags
from ml_collections import ConfigDict
from tqdm import tqdm

from perceiver_io.config.construct import listing
from perceiver_io.data.flow.pair import FlowPair
from perceiver_io.data.pipeline.dataset import Dataset
from perceiver_io.errors import UserError
from perceiver_io.runtime import configuration, program, setup
from scripts.forms import plain_form
from scripts.side_process import MATRIX_SIZE, Side, busy_processors, free_memory, processors

CASE_NAMES = flags.DEFINE_list("cases", ["input", "step"], "Cases to run.")
BATCHES = flags.DEFINE_integer("batches", 8, "Input: batches to time.", lower_bound=1)
WORKERS = flags.DEFINE_list("workers", ["1", "2"], "Input: numbers of worker processes.")
STEPS = flags.DEFINE_integer("steps", 2, "Timed steps; the median is shown.", lower_bound=1)
THREADS = flags.DEFINE_integer("threads", 2, "Step: processors.")
CONFIG = flags.DEFINE_string(
    "config", "configs/optical_flow.py:procedural", "Its model is that of `patches`."
)

PAIRS_IN_BATCH = 4
PRODUCTS = 10


def main() -> None:
    """Runs the chosen cases."""
    for name in CASE_NAMES.value:
        if name not in CASES:
            raise UserError(f"There is no case {name!r}; choose from {listing(CASES)}.")
    config = configuration.load(CONFIG.value, program.overrides())
    for name in CASE_NAMES.value:
        CASES[name](config)


def input_case(config: ConfigDict) -> None:
    """Prints a row for each part of the input pipeline."""
    dataset = setup.build_dataset(config, setup.build_task(config))
    # From the first example on, as in most of the training.
    augmented = dataclasses.replace(dataset.preparation, plain_examples=0, growth_examples=0)
    dataset = dataclasses.replace(dataset, preparation=augmented)
    source, count = dataset.source("train"), BATCHES.value * PAIRS_IN_BATCH
    source[0]  # reads what is read only once, such as photographs for textures
    pairs, *whole = timed(lambda: [source[index] for index in range(count)])
    sizes = ["x".join(map(str, size)) for size in (pairs[0].size, dataset.preparation.image_size)]
    print(
        f"\ninput, {CONFIG.value}: {sizes[0]} -> {sizes[1]} pixels, {count} pairs; "
        f"{busy_processors()}\n{'pairs a second':32}{'elapsed':>9}{'per core':>10}"
    )
    print_rates("whole pairs", *whole)
    if dataset.preparation.augmentation is not None:
        print_rates("augmentation alone", *timed(lambda: augment(dataset, pairs))[1:])
    print_rates("training batches, in process", *pipeline(dataset, 0))
    for workers in map(int, WORKERS.value):
        elapsed, _ = pipeline(dataset, workers)
        print_rates(f"training batches, {workers} worker(s)", elapsed, elapsed * workers)


def timed(work: Callable) -> tuple:
    """The result, the elapsed seconds, and the processor seconds of this process."""
    clocks = (time.perf_counter, time.process_time)
    starts = [clock() for clock in clocks]
    result = work()
    return result, *(clock() - start for clock, start in zip(clocks, starts, strict=True))


def augment(dataset: Dataset, pairs: list[FlowPair]) -> None:
    """Augments pairs, without the fields that a training example leaves out."""
    preparation = dataset.preparation
    rng = np.random.default_rng(0)
    for pair in pairs:
        lean = pair._replace(backward=None, occluded=None)
        preparation.augmentation(lean, preparation.image_size, rng)


def pipeline(dataset: Dataset, num_workers: int) -> tuple[float, float]:
    """Elapsed and processor seconds, as in `timed`, for training batches."""
    dataset = dataclasses.replace(dataset, num_workers=num_workers)
    batches = iter(
        dataset.load("train", batch_size=PAIRS_IN_BATCH, training=True, seed=0, shard=(0, 1))
    )
    # First exhaust the buffers of the workers, so that timed batches are prepared during the
    # measurement.
    for _ in range(1 + 3 * num_workers):
        next(batches)
    _, *seconds = timed(lambda: [next(batches) for _ in range(BATCHES.value)])
    batches.close()
    return tuple(seconds)


def print_rates(name: str, elapsed: float, core: float) -> None:
    """Prints a row of the table, given the seconds for all pairs."""
    count = BATCHES.value * PAIRS_IN_BATCH
    print(f"{name:32}{count / elapsed:9.2f}{count / core:10.2f}", flush=True)


def step_case(config: ConfigDict) -> None:
    """Prints a row for each form of the training step."""
    cores = processors(THREADS.value)
    config.training.batch_size = 1
    size = "x".join(map(str, config.model.image_size))
    print(
        f"\nstep, {CONFIG.value}: one pair of {size} pixels, optimizer {config.optimizer.name}, "
        f"{THREADS.value} threads; {busy_processors()}\n"
        f"{'':15}{'compile':>9}{'temporary memory':>22}{'FLOPs':>12}{'step':>9}{'rate':>14}"
        f"{'share':>7}{'peak above rest':>17}{'at rest':>10}",
        flush=True,
    )
    temporary = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, form in {"plain": plain_form(config), "as configured": config}.items():
            path = Path(folder) / f"{name}.json"
            path.write_text(form.to_json())
            with Side([sys.executable, "-m", "scripts._flow_side", str(path)], cores) as side:
                temporary[name] = side.facts["temporary"]
                print_step(name, side, temporary["plain"])
    share = temporary["as configured"] / temporary["plain"]
    print(f"temporary memory as configured: {share:.1%} of that of the plain form")


def print_step(name: str, side: Side, first: int) -> None:
    """Prints a row of the table; `first` is the temporary memory of the first row."""
    facts = side.facts
    line = (
        f"{name:15}{facts['compile_seconds']:7.1f} s{facts['temporary'] / 2**20:10.0f} MiB"
        f"{first / facts['temporary']:7.1f}x{facts['flops'] / 1e9:6.0f} GFLOP"
    )
    free = free_memory()
    if facts["temporary"] > free:
        print(f"{line}  not run: {free / 2**30:.1f} GiB are free", flush=True)
        return
    answers = [side.ask("run") for _ in tqdm(range(STEPS.value + 1), name, leave=False)]
    seconds = statistics.median(answer["seconds"] for answer in answers[1:])
    product = min(side.ask("multiply")["seconds"] for _ in range(PRODUCTS))
    rate, best = facts["flops"] / seconds, 2 * MATRIX_SIZE**3 / product
    peak = answers[-1]["peak"] - facts["idle"]
    print(
        f"{line}{seconds:7.2f} s{rate / 1e9:6.0f} GFLOP/s{rate / best:7.0%}"
        f"{peak / 2**20:13.0f} MiB{facts['idle'] / 2**20:6.0f} MiB\n"
        f"{facts['versions']}, {facts['parameters']:,} parameters; product of {MATRIX_SIZE} x "
        f"{MATRIX_SIZE} matrices: {best / 1e9:.0f} GFLOP/s",
        flush=True,
    )


CASES: dict[str, Callable[[ConfigDict], None]] = {"input": input_case, "step": step_case}


if __name__ == "__main__":
    program.run(main)
