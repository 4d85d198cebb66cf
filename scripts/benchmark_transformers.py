"""Times the published models against Hugging Face's transformers on torch, on this CPU.

    python -m scripts.benchmark_transformers --torch_python=PYTHON [--repeats=5] [--threads=2]
        [--cases=language,flow,imagenet,language_gradient,imagenet_gradient]

PYTHON is the interpreter of another environment: `python -m venv torch && torch/bin/pip install
torch==2.13.0 transformers safetensors`. Cases, in float32, for one example, with published sizes
and random weights:

language: masked language model, 2048 bytes.
flow: optical flow between two frames of 368 x 496 pixels.
imagenet: classification of an image of 224 x 224 pixels, Fourier positions.
language_gradient, imagenet_gradient: the mean cross-entropy over all positions, or of the image,
    and its gradient with respect to all parameters, without dropout.

Each side runs in its own process, on the same processors, with the same weights, which transformers
writes and `perceiver_io.pretrained` reads. Runs alternate; medians are shown. Times exclude
compilation here and the preparation of inputs (extracting patches of frames) in transformers.
Memory is the peak of the whole process above its state at rest, with weights loaded and, here, the
program compiled; the gradient itself, as large as the weights, is subtracted from the peak of both
sides. Shares are relative to the best rate that either library reaches in a product of two large
matrices, and count the FLOPs that each side executes, including rematerialisation. Ends with an
error if outputs differ by more than 1e-4 of the largest one, losses by more than 1e-4, or gradients
by more than 1e-3 of their norm.

Run it on an idle machine: torch's threads synchronise in every operation, so that another program
on one of the processors slows that side down far more than ours.
"""

import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

if not __package__:  # Run as a file: imports start at the repository's root.
    sys.path[0] = str(Path(__file__).parents[1])

import numpy as np
from absl import flags
from tqdm import tqdm

from perceiver_io.config.construct import listing
from perceiver_io.errors import UserError
from perceiver_io.runtime import program
from scripts._agreement import check_gradients, check_outputs
from scripts.side_process import MATRIX_SIZE, Side, busy_processors, processors

TORCH_PYTHON = flags.DEFINE_string(
    "torch_python", None, "Python of an environment with torch and transformers.", required=True
)
GRADIENTS = {"language_gradient": "language", "imagenet_gradient": "imagenet"}
CASES = flags.DEFINE_list("cases", ["language", "flow", "imagenet", *GRADIENTS], "Cases to run.")
REPEATS = flags.DEFINE_integer("repeats", 5, "Timed runs of each side; the median is shown.")
THREADS = flags.DEFINE_integer("threads", 2, "Processors, the same for both sides.")

PRODUCTS = 10


class Measured(NamedTuple):
    """Median seconds, bytes at rest, and peak bytes above that without the gradient."""

    seconds: float
    idle: int
    peak: int


def main() -> None:
    """Runs the chosen cases."""
    for name in CASES.value:
        if name not in INPUTS | GRADIENTS:
            raise UserError(
                f"There is no case {name!r}; choose from {listing(INPUTS | GRADIENTS)}."
            )
    cores = processors(THREADS.value)
    if not Path(TORCH_PYTHON.value).is_file():
        raise UserError(
            f"There is no {TORCH_PYTHON.value}: give the Python of an environment with torch and "
            "transformers; `python -m scripts.benchmark_transformers --help` says how to make one."
        )
    for name in CASES.value:
        with tempfile.TemporaryDirectory() as folder:
            compare(name, Path(folder) / GRADIENTS.get(name, name), cores)


def compare(name: str, folder: Path, cores: list[int]) -> None:
    """Runs one case; the folder is named after the model."""
    model = folder.name
    torch_side = [TORCH_PYTHON.value, "-m", "scripts._transformers_side"]
    # Weights of published sizes take up to a gigabyte, so each case deletes its folder.
    subprocess.run([*torch_side, "make", model, folder], check=True)
    rng = np.random.default_rng(0)
    np.save(folder / "inputs.npy", INPUTS[model](rng))
    if name in GRADIENTS:
        np.save(folder / "targets.npy", TARGETS[model](rng))
    commands = {
        "transformers": [*torch_side, "serve", model, str(folder)],
        "here": [sys.executable, "-m", "scripts._own_side", str(folder)],
    }
    others = busy_processors()
    with (
        Side(commands["transformers"], cores) as theirs,
        Side(commands["here"], cores) as ours,
    ):
        sides = {"transformers": theirs, "here": ours}
        measured = take_turns(name, sides)
        rates = {side: best_rate(process) for side, process in sides.items()}
        for process in sides.values():
            process.ask("save")
        print_table(name, others, sides, measured, rates)
    check = check_gradients if name in GRADIENTS else check_outputs
    check(*(np.load(folder / f"{side}.npy") for side in commands))


def take_turns(name: str, sides: dict[str, Side]) -> dict[str, Measured]:
    """Alternates between the sides, after a warm-up round."""
    times, peaks = {side: [] for side in sides}, {}
    for turn in tqdm(range(REPEATS.value + 1), name, leave=False):
        for side, process in sides.items():
            answer = process.ask("run")
            peaks[side] = answer["peak"]
            if turn:
                times[side].append(answer["seconds"])
    gradient = sides["here"].facts["gradient_bytes"]
    return {
        side: Measured(
            statistics.median(times[side]),
            process.facts["idle"],
            peaks[side] - process.facts["idle"] - gradient,
        )
        for side, process in sides.items()
    }


def best_rate(side: Side) -> float:
    """FLOP/s of a large matrix product, best of several."""
    seconds = min(side.ask("multiply")["seconds"] for _ in range(PRODUCTS))
    return 2 * MATRIX_SIZE**3 / seconds


def print_table(
    name: str,
    others: str,
    sides: dict[str, Side],
    measured: dict[str, Measured],
    rates: dict[str, float],
) -> None:
    """Prints a row for each side, with its ratio to `transformers`."""
    flops = sides["here"].facts["flops"]
    versions = ", ".join(side.facts["versions"] for side in sides.values())
    print(
        f"\n{name}: {versions}, {THREADS.value} threads; {others}\n"
        f"{'':13}{'time':>10}{'':9}{'peak above rest':>18}{'':9}{'at rest':>10}{'done':>14}"
        f"{'rate':>14}{'share':>7}"
    )
    first = measured["transformers"]
    for side, (seconds, idle, peak) in measured.items():
        done = flops["as run" if side == "here" else "as written"]
        print(
            f"{side:13}{seconds:8.2f} s{first.seconds / seconds:7.2f}x"
            f"{peak / 2**20:14.0f} MiB{first.peak / peak:7.2f}x{idle / 2**20:8.0f} MiB"
            f"{done / 1e9:8.0f} GFLOP{done / seconds / 1e9:7.0f} GFLOP/s"
            f"{done / seconds / max(rates.values()):7.0%}"
        )
    products = ", ".join(f"{side} {rate / 1e9:.0f}" for side, rate in rates.items())
    print(
        f"product of {MATRIX_SIZE} x {MATRIX_SIZE} matrices, GFLOP/s: {products}; "
        f"compilation here: {sides['here'].facts['compile_seconds']:.1f} s",
        flush=True,
    )


# Bytes start after 6 special tokens.
INPUTS: dict[str, Callable[[np.random.Generator], np.ndarray]] = {
    "language": lambda rng: rng.integers(6, 262, (1, 2048), np.int32),
    "flow": lambda rng: rng.uniform(-1, 1, (1, 2, 368, 496, 3)).astype(np.float32),
    "imagenet": lambda rng: rng.normal(size=(1, 224, 224, 3)).astype(np.float32),
}
TARGETS: dict[str, Callable[[np.random.Generator], np.ndarray]] = {
    "language": INPUTS["language"],
    "imagenet": lambda rng: rng.integers(0, 1000, 1),
}


if __name__ == "__main__":
    program.run(main)
