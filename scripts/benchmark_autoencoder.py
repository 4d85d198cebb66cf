"""Times a training step of an autoencoder and decoding 1, 4 and all 16 frames, on this CPU.

    python -m scripts.benchmark_autoencoder [--config=configs/kinetics.py:88x] [--batch_size=1]
        [--repeats=3] [--threads=2]

The model has random weights, and the data are noise. A step is loss and gradient for the random
points of the config, and an update. Decoding encodes the clip once, then decodes the pixels of its
first frames, `config.task.chunk_size` at a time. Each runs in its own process. Times exclude
compilation. Memory is the peak of the process above its state at rest with weights loaded.
"""

import statistics
import sys
from pathlib import Path

if not __package__:  # Run as a file: imports start at the repository's root.
    sys.path[0] = str(Path(__file__).parents[1])

from absl import flags

from perceiver_io.runtime import program
from scripts.side_process import Side, busy_processors, processors

CONFIG = flags.DEFINE_string("config", "configs/kinetics.py:88x", "Config file: FILE.py[:PRESET].")
BATCH_SIZE = flags.DEFINE_integer("batch_size", 1, "Clips in the training step.", lower_bound=1)
REPEATS = flags.DEFINE_integer("repeats", 3, "Runs; the median is shown.", lower_bound=1)
THREADS = flags.DEFINE_integer("threads", 2, "Processors.")

FRAMES = (1, 4, 16)


def main() -> None:
    """Prints a line for the step and for each number of frames."""
    cores = processors(THREADS.value)
    print(f"{CONFIG.value}, {THREADS.value} threads; {busy_processors()}\n")
    measure(f"training step, batch {BATCH_SIZE.value}", cores, "step", BATCH_SIZE.value)
    for count in FRAMES:
        measure(f"encode, decode {count} frames", cores, "decode", count)


def measure(name: str, cores: list[int], what: str, number: int) -> None:
    """Prints the median time, the peak memory and the FLOPs of a process."""
    arguments = [CONFIG.value, what, str(number)]
    with Side([sys.executable, "-m", "scripts._autoencoder_side", *arguments], cores) as side:
        answers = [side.ask("run") for _ in range(REPEATS.value)]
        seconds = statistics.median(answer["seconds"] for answer in answers)
        above = answers[-1]["peak"] - side.facts["idle"]
        print(
            f"{name:28}{seconds:8.2f} s{above / 2**20:8.0f} MiB above "
            f"{side.facts['idle'] / 2**20:.0f} MiB{side.facts['flops'] / 1e12:8.2f} TFLOP",
            flush=True,
        )


if __name__ == "__main__":
    program.run(main)
