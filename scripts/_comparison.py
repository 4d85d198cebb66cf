"""Two sides that compute the same are timed in turns: another library, and `here`."""

import statistics
from typing import NamedTuple

from tqdm import tqdm

from scripts.side_process import MATRIX_SIZE, Side

PRODUCTS = 10


class Measured(NamedTuple):
    """Median seconds, bytes at rest, and peak bytes above that without the gradient.

    Seconds of all processors together are hardly affected by other programs, with a single thread.
    """

    seconds: float
    processor_seconds: float
    idle: int
    peak: int


def print_table(name: str, machine: str, sides: dict[str, Side], repeats: int) -> None:
    """Times the sides, lets them save their results, and prints a row for each.

    Args:
        name: what is computed.
        machine: what it is computed on.
        sides: by name, first the other library's, then `here`. Each can `run`, `multiply` and
            `save`. Facts are its `versions` and, here, the `flops` (`as written`, `as run`),
            `compile_seconds`, and `gradient_bytes` to leave out of the peaks of both sides.
        repeats: timed runs of each side, of which the median is shown.
    """
    measured = _take_turns(name, sides, repeats)
    rates = {side: _best_rate(process) for side, process in sides.items()}
    for process in sides.values():
        process.ask("save")
    flops = sides["here"].facts["flops"]
    versions = ", ".join(side.facts["versions"] for side in sides.values())
    print(
        f"\n{name}: {versions}, {machine}\n"
        f"{'':13}{'time':>10}{'':9}{'processors':>12}{'':9}{'peak above rest':>18}{'':9}"
        f"{'at rest':>10}{'done':>14}{'rate':>14}{'share':>7}"
    )
    first = next(iter(measured.values()))
    for side, (seconds, processor_seconds, idle, peak) in measured.items():
        done = flops["as run" if side == "here" else "as written"]
        print(
            f"{side:13}{seconds:8.2f} s{first.seconds / seconds:7.2f}x"
            f"{processor_seconds:10.2f} s{first.processor_seconds / processor_seconds:7.2f}x"
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


def _take_turns(name: str, sides: dict[str, Side], repeats: int) -> dict[str, Measured]:
    """Alternates between the sides, after a warm-up round."""
    answers = {side: [] for side in sides}
    for turn in tqdm(range(repeats + 1), name, leave=False):
        for side, process in sides.items():
            answer = process.ask("run")
            if turn:
                answers[side].append(answer)
    gradient = sides["here"].facts["gradient_bytes"]
    return {
        side: Measured(
            statistics.median(answer["seconds"] for answer in answers[side]),
            statistics.median(answer["processor_seconds"] for answer in answers[side]),
            process.facts["idle"],
            answers[side][-1]["peak"] - process.facts["idle"] - gradient,
        )
        for side, process in sides.items()
    }


def _best_rate(side: Side) -> float:
    """FLOP/s of a large matrix product, best of several."""
    seconds = min(side.ask("multiply")["seconds"] for _ in range(PRODUCTS))
    return 2 * MATRIX_SIZE**3 / seconds
