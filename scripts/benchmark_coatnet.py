"""Times a training step of a CoAtNet against timm's on torch, on this CPU.

    python -m scripts.benchmark_coatnet --torch_python=PYTHON [--model=coatnet_0_224]
        [--batch_size=8] [--repeats=5] [--threads=2]

PYTHON is the interpreter of another environment: `python -m venv torch && torch/bin/pip install
torch==2.13.0 numpy pillow pyyaml huggingface_hub safetensors`, then `torch/bin/pip install
--no-deps timm==1.0.31`; torchvision is not needed.

A step is the mean cross-entropy of a batch of 224 x 224 pixels, its gradient, and an update by
AdamW, in float32, without stochastic depth. Batch norm uses the batch's statistics. Both sides have
the same random weights, which timm writes and `perceiver_io.pretrained` reads. torch has its
fastest settings on CPUs: channels last, and the fused optimizer. The learning rate is so small that
all steps are equal, and the gradients of the two sides can be compared.

Each side runs in its own process, on the same processors. Runs alternate; medians are shown. Times
exclude compilation. Memory is the peak of the whole process above its state at rest, which includes
weights and the optimizer's state. Shares are relative to the best rate that either library reaches
in a product of two large matrices; FLOPs are those of products and convolutions. Ends with an error
if losses differ by more than 1e-4, or gradients by more than 1e-3 of their norm.

Run it on an idle machine: torch's threads synchronise in every operation, so that another program
on one of the processors slows that side down far more than ours.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

if not __package__:  # Run as a file: imports start at the repository's root.
    sys.path[0] = str(Path(__file__).parents[1])

import numpy as np
from absl import flags

from perceiver_io.errors import UserError
from perceiver_io.runtime import program
from scripts._agreement import check_gradients
from scripts._comparison import print_table
from scripts.side_process import Side, busy_processors, processors

TORCH_PYTHON = flags.DEFINE_string(
    "torch_python", None, "Python of an environment with torch and timm.", required=True
)
MODEL = flags.DEFINE_string("model", "coatnet_0_224", "timm's name of the model.")
BATCH_SIZE = flags.DEFINE_integer("batch_size", 8, "Images in a batch.", lower_bound=1)
REPEATS = flags.DEFINE_integer("repeats", 5, "Timed steps of each side; the median is shown.")
THREADS = flags.DEFINE_integer("threads", 2, "Processors, the same for both sides.")

SIDE = 224
LEARNING_RATE, WEIGHT_DECAY = 1e-12, 0.05


def main() -> None:
    """Times both sides."""
    cores = processors(THREADS.value)
    if not Path(TORCH_PYTHON.value).is_file():
        raise UserError(
            f"There is no {TORCH_PYTHON.value}: give the Python of an environment with torch and "
            "timm; `python -m scripts.benchmark_coatnet --help` says how to make one."
        )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        torch_side = [TORCH_PYTHON.value, "-m", "scripts._timm_side"]
        subprocess.run([*torch_side, "make", MODEL.value, folder], check=True)
        rng = np.random.default_rng(0)
        images = rng.normal(size=(BATCH_SIZE.value, SIDE, SIDE, 3)).astype(np.float32)
        np.save(folder / "inputs.npy", images)
        np.save(folder / "targets.npy", rng.integers(0, 1000, BATCH_SIZE.value))
        np.save(folder / "optimizer.npy", (LEARNING_RATE, WEIGHT_DECAY))
        others = busy_processors()
        with (
            Side([*torch_side, "serve", MODEL.value, name], cores) as theirs,
            Side([sys.executable, "-m", "scripts._coatnet_side", name], cores) as ours,
        ):
            print_table(
                f"{MODEL.value}, training step of {BATCH_SIZE.value} images",
                f"{THREADS.value} threads; {others}",
                {"timm": theirs, "here": ours},
                REPEATS.value,
            )
        check_gradients(*(np.load(folder / f"{side}.npy") for side in ("timm", "here")))


if __name__ == "__main__":
    program.run(main)
