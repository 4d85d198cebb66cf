"""Times the decoding of a whole video against the way of the published notebook, on this CPU.

    python -m scripts.benchmark_video [--notebook_chunks=8] [--repeats=3] [--chunk_size=4096]
        [--threads=2]

The published autoencoder at full size with random weights: 16 frames of 224 x 224 pixels, 1920
patches of sound and the label are 803,297 outputs, read from 784 latents. Both sides, in float32:

notebook: for each of 128 pieces of the outputs (6272 pixels, 15 patches of sound, the label) one
    `model.apply`, which encodes the video again, with attention in its plain form. Only
    `--notebook_chunks` of them are run, and the time of one, their median, is taken 128 times;
    give 128 for all of them.
here: `perceiver_io.tasks.multimodal_autoencoding.reconstruction.reconstruct`, which encodes once.

Each side runs in a process of its own, on the same processors; they take turns. Times are without
compilation. Memory is the peak of the process above its state at rest with weights loaded; the
notebook's does not hold the whole result, the other one's does.
"""

import statistics
import sys
import tempfile
from pathlib import Path

if not __package__:  # Run as a file: imports start at the repository's root.
    sys.path[0] = str(Path(__file__).parents[1])

import numpy as np
from absl import flags
from tqdm import tqdm

from perceiver_io.errors import UserError
from perceiver_io.runtime import program
from scripts.side_process import Side, busy_processors, processors

NOTEBOOK_CHUNKS = flags.DEFINE_integer("notebook_chunks", 8, "Pieces to time of the 128.")
REPEATS = flags.DEFINE_integer("repeats", 3, "Timed reconstructions here; the median counts.")
CHUNK_SIZE = flags.DEFINE_integer("chunk_size", 4096, "Points that are decoded at a time here.")
THREADS = flags.DEFINE_integer("threads", 2, "Processors, the same for both sides.")


PIECES = 128
MAX_DIFFERENCE = 1e-4


def main() -> None:
    """Times both sides in turn and prints a line for each."""
    cores = processors(THREADS.value)
    if not 1 <= REPEATS.value <= NOTEBOOK_CHUNKS.value <= PIECES:
        raise UserError(
            f"notebook_chunks={NOTEBOOK_CHUNKS.value} must be from repeats={REPEATS.value} to "
            f"{PIECES}, which are all."
        )
    others = busy_processors()
    with (
        tempfile.TemporaryDirectory() as folder,
        Side(command("notebook", folder), cores) as notebook,
        Side(command("here", folder), cores) as here,
    ):
        pieces, wholes = take_turns(notebook, here)
        print(f"{THREADS.value} threads; {others}\n")
        piece = statistics.median(x["seconds"] for x in pieces)
        estimated = PIECES * piece
        print_side(
            f"notebook, {PIECES} x {piece:.2f} s", notebook, estimated, pieces[-1], estimated
        )
        whole = statistics.median(x["seconds"] for x in wholes)
        print_side("here, whole", here, whole, wholes[-1], estimated)
        run = sum(x["seconds"] for x in pieces)
        print(f"\n{len(pieces)} of the notebook's pieces were run and took {run:.1f} s.")
        check_outputs(Path(folder))


def take_turns(notebook: Side, here: Side) -> tuple[list[dict], list[dict]]:
    """The answers of both sides: pieces, and whole videos spread evenly between them."""
    pieces, wholes = [], []
    for turn in tqdm(range(NOTEBOOK_CHUNKS.value), "pieces", leave=False):
        pieces.append(notebook.ask("run"))
        if turn * REPEATS.value // NOTEBOOK_CHUNKS.value >= len(wholes):
            wholes.append(here.ask("run"))
    return pieces, wholes


def command(side: str, folder: str) -> list[str]:
    """What starts a side."""
    return [sys.executable, "-m", "scripts._video_sides", side, folder, str(CHUNK_SIZE.value)]


def print_side(name: str, side: Side, seconds: float, answer: dict, first: float) -> None:
    """Time and ratio, memory, FLOPs."""
    flops, idle = side.facts["flops"], side.facts["idle"]
    print(
        f"{name:26}{seconds:9.1f} s{first / seconds:7.2f}x"
        f"{(answer['peak'] - idle) / 2**20:8.0f} MiB above {idle / 2**20:.0f} MiB at rest"
        f"{flops / 1e12:8.2f} TFLOP{flops / seconds / 1e9:7.0f} GFLOP/s"
    )


def check_outputs(folder: Path) -> None:
    """Prints the largest difference on the pixels of both. Raises UserError if it is too large."""
    whole = np.split(np.load(folder / "here.npy"), PIECES)
    pairs = [
        (whole[i], np.load(path)) for i in range(PIECES) if (path := folder / f"{i}.npy").exists()
    ]
    largest = max(np.abs(theirs).max() for _, theirs in pairs)
    difference = max(np.abs(ours - theirs).max() for ours, theirs in pairs) / largest
    print(f"Largest difference on {len(pairs)} pieces, relative: {difference:.1e}")
    if not difference <= MAX_DIFFERENCE:
        raise UserError(
            f"Both sides differ by {difference:.1e}, more than {MAX_DIFFERENCE}: the times above "
            "compare different functions."
        )


if __name__ == "__main__":
    program.run(main)
