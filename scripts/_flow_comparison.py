"""Classical methods of optical flow and their evaluation, for `scripts.compare_flow`."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import cv2
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from perceiver_io.data.flow.files import Flow
from perceiver_io.data.flow.pair import FlowPair, cut
from perceiver_io.tasks.task import Task

METRICS = ("epe", "1px", "3px", "fl_all")

# The flow length reported for a set of pairs is this percentile, so that a few pixels do not
# decide.
PERCENTILE = 99

Method = Callable[[np.ndarray, np.ndarray], np.ndarray]


class Compared(NamedTuple):
    """A pair, and its flow in pixels by method name."""

    pair: FlowPair
    flows: dict[str, np.ndarray]


def no_motion(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Zeros."""
    del second
    return np.zeros((*first.shape[:2], 2), np.float32)


def farneback(first: np.ndarray, second: np.ndarray, *, window: int) -> np.ndarray:
    """Farneback's method (2003); `window` is the side of the window in pixels."""
    return cv2.calcOpticalFlowFarneback(
        grey(first),
        grey(second),
        None,
        pyr_scale=0.5,
        levels=5,
        winsize=window,
        iterations=3,
        poly_n=7,
        poly_sigma=1.5,
        flags=0,
    )


def dense_inverse_search(first: np.ndarray, second: np.ndarray, *, preset: int) -> np.ndarray:
    """DIS (Kroeger et al., 1603.03590) with one of OpenCV's presets."""
    return cv2.DISOpticalFlow_create(preset).calc(grey(first), grey(second), None)


def grey(frame: np.ndarray) -> np.ndarray:
    """Luminance, the only input of these methods."""
    return cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)


# Each method with several settings, since small and large frames need different ones.
CLASSICAL: dict[str, tuple[Method, ...]] = {
    "no motion": (no_motion,),
    "Farneback": tuple(partial(farneback, window=window) for window in (9, 15, 31)),
    "DIS": tuple(
        partial(dense_inverse_search, preset=preset)
        for preset in (cv2.DISOPTICAL_FLOW_PRESET_FAST, cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    ),
}


def longest(pairs: Sequence[FlowPair]) -> float:
    """The percentile of the flow length in pixels, over all known pixels."""
    flow = np.concatenate([pair.flow.flow[pair.flow.valid] for pair in pairs])
    return float(np.percentile(np.hypot(*flow.T), PERCENTILE))


def reduced(pair: FlowPair, factor: int) -> FlowPair:
    """A pair downscaled by an integer factor, by averaging; its flow is divided by the factor.

    Flow is averaged over known pixels, and known where at least half of them are. Incomplete pixels
    at the right and bottom edges are dropped.
    """
    size = tuple(side // factor for side in pair.size)
    pair = cut(pair, (0, 0), tuple(side * factor for side in size))

    def mean(x: np.ndarray) -> np.ndarray:
        blocks = x.reshape(size[0], factor, size[1], factor, -1)
        return blocks.mean((1, 3), dtype=np.float64)

    share = mean(pair.flow.valid)
    flow = mean(pair.flow.flow) / np.maximum(share, 1e-9) / factor  # 0 where it is not known
    return FlowPair(
        np.rint(mean(pair.first)).astype(np.uint8),
        np.rint(mean(pair.second)).astype(np.uint8),
        Flow(flow.astype(np.float32), share[..., 0] >= 0.5),
        backward=None,
        occluded=None,
        name=f"{pair.name}, {factor} times smaller",
    )


def apply(
    task: Task, methods: dict[str, tuple[Method, ...]], pairs: Sequence[FlowPair]
) -> list[Compared]:
    """The flow of each pair by each method, with the settings that do best on all pairs."""
    best = {name: _best(task, name, settings, pairs) for name, settings in methods.items()}
    return [
        Compared(pair, {name: tried[i].flows[name] for name, tried in best.items()})
        for i, pair in enumerate(pairs)
    ]


def _best(
    task: Task, name: str, settings: tuple[Method, ...], pairs: Sequence[FlowPair]
) -> list[Compared]:
    """The flow by the setting with the lowest end-point error."""
    tries = [
        [Compared(pair, {name: method(*pair[:2])}) for pair in tqdm(pairs, name, leave=False)]
        for method in settings
    ]
    return min(tries, key=lambda compared: measure(task, compared, name)["epe"])


def table(task: Task, compared: dict[str, list[Compared]]) -> str:
    """A table with a row for each method, for each set of pairs."""
    lines = []
    for name, pairs in compared.items():
        lines += ["", name, f"{'':12}" + "".join(f"{metric:>9}" for metric in METRICS)]
        for method in pairs[0].flows:
            values = measure(task, pairs, method)
            shown = [f"{values['epe']:9.3f}", *(f"{values[x]:9.2%}" for x in METRICS[1:])]
            lines.append(f"{method:12}" + "".join(shown))
    return "\n".join(lines[1:])


def measure(task: Task, pairs: Sequence[Compared], method: str) -> dict[str, float]:
    """The task's metrics for a method, over all known pixels of all pairs."""
    totals = defaultdict(lambda: np.zeros(2))
    for pair, flows in pairs:
        truth = {"flow": pair.flow.flow, "flow_valid": pair.flow.valid, "valid": np.array(True)}
        batch = {name: array[None] for name, array in truth.items()}
        sums = task.metrics(jnp.asarray(flows[method][None]), batch)
        for name, sum_and_count in sums.items():
            totals[name] += np.array(sum_and_count, np.float64)
    return {name: total / count for name, (total, count) in totals.items() if count}
