"""Times decoding a whole video, compared with the published notebook's way, on this CPU.

    python -m scripts.benchmark_video [--notebook_chunks=8] [--repeats=3] [--chunk_size=4096]
        [--threads=2]

The published autoencoder has 804,737 outputs (16 frames of 224 x 224 pixels, 1920 patches of sound
and the label), decoded from 784 latents. It runs at full size with random weights, in float32. The
sides:

notebook: one `model.apply` for each of 128 chunks of the outputs (6272 pixels, 15 patches of sound,
    the label), which encodes the video each time, with plain attention. Only `--notebook_chunks`
    of them are run, and their median time is multiplied by 128; give 128 to run all of them.
here: `perceiver_io.tasks.multimodal_autoencoding.reconstruction.reconstruct`, which encodes once.

Each side runs in its own process, on the same processors; runs alternate. Times exclude
compilation. Memory is the peak of the process above its state at rest with weights loaded; it
includes the whole result for `here`, but not for `notebook`.
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

NOTEBOOK_CHUNKS = flags.DEFINE_integer("notebook_chunks", 8, "Chunks to time, of 128.")
REPEATS = flags.DEFINE_integer("repeats", 3, "Timed reconstructions here; the median is shown.")
CHUNK_SIZE = flags.DEFINE_integer("chunk_size", 4096, "Points decoded at a time here.")
THREADS = flags.DEFINE_integer("threads", 2, "Processors, the same for both sides.")


PIECES = 128
MAX_DIFFERENCE = 1e-4


def main() -> None:
    """Times both sides alternately and prints a row for each."""
    cores = processors(THREADS.value)
    if not 1 <= REPEATS.value <= NOTEBOOK_CHUNKS.value <= PIECES:
        raise UserError(
            f"notebook_chunks={NOTEBOOK_CHUNKS.value} must be from repeats={REPEATS.value} to "
            f"{PIECES}, the number of all chunks."
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
        print(f"\n{len(pieces)} of the notebook's chunks were run and took {run:.1f} s.")
        check_outputs(Path(folder))


def take_turns(notebook: Side, here: Side) -> tuple[list[dict], list[dict]]:
    """The answers of both sides: chunks, and whole videos evenly interleaved with them."""
    pieces, wholes = [], []
    for turn in tqdm(range(NOTEBOOK_CHUNKS.value), "pieces", leave=False):
        pieces.append(notebook.ask("run"))
        if turn * REPEATS.value // NOTEBOOK_CHUNKS.value >= len(wholes):
            wholes.append(here.ask("run"))
    return pieces, wholes


def command(side: str, folder: str) -> list[str]:
    """The command that starts a side."""
    return [sys.executable, "-m", "scripts._video_sides", side, folder, str(CHUNK_SIZE.value)]


def print_side(name: str, side: Side, seconds: float, answer: dict, first: float) -> None:
    """Prints time and ratio, memory, and FLOPs."""
    flops, idle = side.facts["flops"], side.facts["idle"]
    print(
        f"{name:26}{seconds:9.1f} s{first / seconds:7.2f}x"
        f"{(answer['peak'] - idle) / 2**20:8.0f} MiB above {idle / 2**20:.0f} MiB at rest"
        f"{flops / 1e12:8.2f} TFLOP{flops / seconds / 1e9:7.0f} GFLOP/s"
    )


def check_outputs(folder: Path) -> None:
    """Prints the largest difference between both sides. Raises UserError if it is too large."""
    whole = np.split(np.load(folder / "here.npy"), PIECES)
    pairs = [
        (whole[i], np.load(path)) for i in range(PIECES) if (path := folder / f"{i}.npy").exists()
    ]
    largest = max(np.abs(theirs).max() for _, theirs in pairs)
    difference = max(np.abs(ours - theirs).max() for ours, theirs in pairs) / largest
    print(f"Largest relative difference on {len(pairs)} chunks: {difference:.1e}")
    if not difference <= MAX_DIFFERENCE:
        raise UserError(
            f"The sides differ by {difference:.1e}, more than {MAX_DIFFERENCE}: the times above "
            "compare different functions."
        )


if __name__ == "__main__":
    program.run(main)
