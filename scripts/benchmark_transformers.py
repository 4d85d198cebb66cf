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

import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

if not __package__:  # Run as a file: imports start at the repository's root.
    sys.path[0] = str(Path(__file__).parents[1])

import numpy as np
from absl import flags

from perceiver_io.config.construct import listing
from perceiver_io.errors import UserError
from perceiver_io.runtime import program
from scripts._agreement import check_gradients, check_outputs
from scripts._comparison import print_table
from scripts.side_process import Side, busy_processors, processors

TORCH_PYTHON = flags.DEFINE_string(
    "torch_python", None, "Python of an environment with torch and transformers.", required=True
)
GRADIENTS = {"language_gradient": "language", "imagenet_gradient": "imagenet"}
CASES = flags.DEFINE_list("cases", ["language", "flow", "imagenet", *GRADIENTS], "Cases to run.")
REPEATS = flags.DEFINE_integer("repeats", 5, "Timed runs of each side; the median is shown.")
THREADS = flags.DEFINE_integer("threads", 2, "Processors, the same for both sides.")


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
        print_table(name, f"{THREADS.value} threads; {others}", sides, REPEATS.value)
    check = check_gradients if name in GRADIENTS else check_outputs
    check(*(np.load(folder / f"{side}.npy") for side in commands))


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
