"""Evaluation of optical flow on whole images, tile by tile, and benchmark submissions."""

import dataclasses
import functools
import heapq
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import grain
import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jaxtyping import Array, PyTree
from matplotlib.figure import Figure

from perceiver_io import losses
from perceiver_io.data.flow.kitti import Kitti
from perceiver_io.data.flow.pair import FlowPair
from perceiver_io.data.flow.sintel import Sintel
from perceiver_io.data.pipeline.dataset import Dataset
from perceiver_io.data.pipeline.listing import printable
from perceiver_io.data.pipeline.sources import one_of_each
from perceiver_io.errors import UserError
from perceiver_io.models.architectures import Architecture
from perceiver_io.progress import Progress
from perceiver_io.tasks.evaluation import Result, Strategy
from perceiver_io.tasks.optical_flow.figures import ComparedFlow, compared_flow
from perceiver_io.tasks.optical_flow.submissions import (
    write_kitti_submission,
    write_sintel_submission,
)
from perceiver_io.tasks.optical_flow.tiling import TiledFlow
from perceiver_io.tasks.task import Task

_ROWS_OF_FIGURE = 4
# Number of pairs that are read ahead while the model runs.
_READ_AHEAD = grain.ReadOptions(num_threads=1, prefetch_buffer_size=2)


class Predicted(NamedTuple):
    """A pair with its predicted flow; `repeated` pairs only pad each process to equally many."""

    pair: FlowPair
    flow: np.ndarray
    is_repeated: bool


@dataclasses.dataclass(frozen=True)
class WholeImages:
    """Evaluates the pairs of a split, which may be of any size, tile by tile.

    With n processes, each takes every n-th pair and runs all of its tiles on its first device, one
    batch after the other.

    Attributes:
        task: computes the metrics.
        dataset: with the split.
        split: name of the split.
        tile_size: (height, width) of the model's frames.
        batch_size: most tiles at a time, over all devices of all processes.
        overlap: least overlap of adjacent tiles in pixels; None: 20, or less if tiles are small.
    """

    task: Task
    dataset: Dataset
    split: str
    _: dataclasses.KW_ONLY
    tile_size: tuple[int, int]
    batch_size: int
    overlap: int | None

    def metric_names(self, model: Architecture) -> list[str]:
        """The loss and the task's metrics; reads a pair to see whether occlusions are known."""
        del model
        self.dataset.check_labelled(self.split)
        pairs = one_of_each(self.dataset.examples(self.split))
        occlusion = any(pair.occluded is not None for pair in pairs)
        return sorted({"loss", *_names(self.task, occlusion=occlusion)})

    def __call__(
        self, model: Architecture, params: PyTree, state: PyTree, strategy: Strategy
    ) -> Result:
        """Evaluates the split, see `Evaluator`; compiles on the first pair of each size.

        The figures show this process's pairs: `examples` the first ones and, if there are more,
        `worst` those with the largest errors. Raises UserError on an unknown split, and on one
        whose flow is not known.
        """
        self.dataset.check_labelled(self.split)
        totals = defaultdict(lambda: np.zeros(2))
        examples, ranked = [], []
        for one in self._predicted(model, params, state, strategy):
            sums = jax.device_get(_measures(self.task, one.flow[None], _batch(one)))
            for name, sum_and_count in sums.items():
                totals[name] += np.array(sum_and_count, np.float64)
            total, count = sums["epe"]
            if not one.is_repeated and count:
                examples = [*examples, one][:_ROWS_OF_FIGURE]
                ranked = heapq.nlargest(
                    _ROWS_OF_FIGURE, [*ranked, (total / count, one)], key=lambda item: item[0]
                )
        # All processes sum the same metrics, whatever pairs each has.
        totals = _over_processes(totals, _names(self.task, occlusion=True))
        metrics = losses.means(totals, self.task.loss_weights, self.split)
        return Result(metrics, _figures(examples, worst=[one for _, one in ranked]))

    def submit(
        self, model: Architecture, params: PyTree, state: PyTree, strategy: Strategy, folder: Path
    ) -> int:
        """Writes the files to submit to the benchmark's server; returns their number.

        Raises UserError on an unknown split, on one whose flow is known, and if the dataset's
        benchmark has no server.
        """
        write = _writer(self.dataset, folder)
        self._check_unlabelled()
        for one in self._predicted(model, params, state, strategy):
            if not one.is_repeated:
                write(one.pair.name, one.flow)
        return self.dataset.num_examples(self.split)

    def _check_unlabelled(self) -> None:
        self.dataset.num_examples(self.split)
        if self.split not in self.dataset.source.unlabelled_splits:
            raise UserError(
                f"--submission is for pairs whose true flow only the benchmark's server has, but "
                f"the flow of the split {self.split!r} of {self.dataset.name} is known. "
                "Choose --split=test, or evaluate locally, without --submission."
            )

    def _predicted(
        self, model: Architecture, params: PyTree, state: PyTree, strategy: Strategy
    ) -> Iterator[Predicted]:
        """This process's pairs; every process has equally many."""
        weights = strategy.replica((params, state))
        tiled = functools.partial(
            TiledFlow, model, *weights, tile_size=self.tile_size, overlap=self.overlap
        )
        corners = tiled(batch_size=1).corners
        source = self.dataset.examples(self.split)
        index, count = jax.process_index(), jax.process_count()
        rounds = -(-len(source) // count)
        positions = grain.MapDataset.range(index, rounds * count, count)
        pairs = positions.map(lambda i: (source[i % len(source)], i >= len(source)))
        # Exact if all pairs have as many tiles as the first.
        with Progress(rounds * len(corners(source[0].size)), "tiles") as progress:
            for pair, is_repeated in pairs.to_iter_dataset(_READ_AHEAD):
                flow_between = tiled(batch_size=self._even(len(corners(pair.size))))
                flow = flow_between(pair.first, pair.second, progress.advance)
                yield Predicted(pair, flow, is_repeated)

    def _even(self, num_tiles: int) -> int:
        """The size of equal batches that needs the least padding in the last one."""
        num_batches = -(-num_tiles // -(-self.batch_size // jax.device_count()))
        return -(-num_tiles // num_batches)


@functools.partial(jax.jit, static_argnums=0)
def _measures(
    task: Task, flow: Array, batch: Mapping[str, Array]
) -> dict[str, tuple[Array, Array]]:
    return losses.measures(task, flow, batch)


def _names(task: Task, *, occlusion: bool) -> list[str]:
    """Names of the metrics in `_measures`, for pairs with or without known occlusions."""
    flow, mask = jnp.zeros((1, 1, 1, 2)), jnp.ones((1, 1, 1), bool)
    batch = {"flow": flow, "flow_valid": mask, "valid": jnp.ones(1, bool)}
    if occlusion:
        batch["occluded"] = mask
    return sorted(jax.eval_shape(functools.partial(_measures, task), flow, batch))


def _batch(one: Predicted) -> dict[str, np.ndarray]:
    """A batch of one pair, which is not valid if it is repeated."""
    pair = one.pair
    batch = {
        "flow": pair.flow.flow,
        "flow_valid": pair.flow.valid,
        "valid": np.array(not one.is_repeated),
    }
    if pair.occluded is not None:
        batch["occluded"] = pair.occluded
    return {name: array[None] for name, array in batch.items()}


def _over_processes(totals: Mapping[str, np.ndarray], names: list[str]) -> dict[str, np.ndarray]:
    """Sums over all processes, some of which may lack some of the names."""
    own = np.stack([totals.get(name, np.zeros(2)) for name in names])
    # As bytes, because JAX would round 64-bit numbers.
    gathered = multihost_utils.process_allgather(np.frombuffer(own.tobytes(), np.uint8))
    of_each = np.frombuffer(gathered.tobytes(), own.dtype).reshape(-1, *own.shape)
    return dict(zip(names, of_each.sum(0), strict=True))


def _figures(examples: list[Predicted], worst: list[Predicted]) -> dict[str, Figure]:
    """The figures that have pairs, without `worst` if it has the same pairs as `examples`."""
    if not examples:
        return {}
    figures = {"examples": _draw(examples)}
    if {one.pair.name for one in worst} != {one.pair.name for one in examples}:
        figures["worst"] = _draw(worst)
    return figures


def _draw(shown: list[Predicted]) -> Figure:
    """Draws a row for each pair, with its name."""
    figure = compared_flow([ComparedFlow(*one.pair[:2], one.flow, *one.pair.flow) for one in shown])
    first_panels = [axes for axes in figure.axes if axes.get_title() == "first frame"]
    for axes, one in zip(first_panels, shown, strict=True):
        axes.set_ylabel(printable(one.pair.name), fontsize=8, parse_math=False)
    return figure


def _writer(dataset: Dataset, folder: Path) -> Callable[[str, np.ndarray], Path]:
    """A function that writes a pair's flow, given its name."""
    source = dataset.source
    if isinstance(source, Sintel):
        return lambda *pair: write_sintel_submission(folder, source.rendering, *pair)
    if isinstance(source, Kitti):
        return lambda *pair: write_kitti_submission(folder, source.year, *pair)
    raise UserError(
        f"--submission={folder} is for Sintel and KITTI, whose servers evaluate flow, but the "
        f"dataset is {dataset.name}: leave it out, or choose another --config."
    )
