"""A dataset as a stream of batches: shards, worker processes, exactly resumable positions.

The state of `grain.experimental.ElasticIterator` (0.2.18) does not depend on the shards either, but
it is not used here because it

- gives shard i of n the examples i, i + n ..., so that the order of a batch's rows depends on the
  number of processes, and pairs to be mixed are separated; here the concatenated shards are the
  batch that a single process would see;
- drops the last, incomplete batch, which evaluation needs (padded);
- silently accepts a position saved with another batch size, although the resumed run would then
  have a different number of steps per epoch than its schedule assumes;
- has each worker prepare whole batches instead of pieces, fails when a SIGTERM sent to all
  processes of a job ends its workers, and has no hook to stop the workers when the training process
  dies.
"""

import errno
import functools
import multiprocessing
import os
import re
import shutil
import signal
import threading
from collections.abc import Callable, Sequence
from typing import NamedTuple

import grain
import numpy as np

from perceiver_io.data.pipeline.batch_ramp import BatchRamp
from perceiver_io.data.pipeline.shared_memory import SHARED_MEMORY, own_prefix, use_prefix
from perceiver_io.errors import UserError

Batch = dict[str, np.ndarray]

# Each element holds many examples, so a deeper buffer would only cost memory.
_READ_OPTIONS = grain.ReadOptions(num_threads=1, prefetch_buffer_size=2)

# Most examples that a worker prepares at a time. Large batches are assembled from such pieces, so
# that they arrive sooner and the buffers of many workers remain small.
_MAX_PIECE = 64

# Grain's message when a worker process has ended.
_ENDED = re.compile(r"terminated unexpectedly with exit code (-?\d+)")

_ADVICE = (
    "To find all such examples at once, and to skip them, run `python -m experiments.check_data`."
)


class Start(NamedTuple):
    """Where some batches of equal size begin in a stream.

    Attributes:
        batches: number of batches before them.
        examples: number of examples before them, over all shards.
        batch_size: of each of them, over all shards.
    """

    batches: int
    examples: int
    batch_size: int


class BatchStream(grain.IterDataset[Batch]):
    """One shard's batches, prefetched in order by worker processes or by a thread.

    Args:
        pieces: called with (start, size), returns the examples of all shards from `start` on, in
            batches of `size`, from which each shard's batches are assembled.
        batch_size: of a full batch, over all shards.
        ramp: how batches grow to this size.
        shard: (index of the shard, number of shards).
        num_workers: number of worker processes; 0 uses a thread.
    """

    def __init__(
        self,
        pieces: Callable[[Start, int], grain.MapDataset[Batch]],
        *,
        batch_size: int,
        ramp: BatchRamp,
        shard: tuple[int, int],
        num_workers: int,
    ) -> None:
        super().__init__()
        self._pieces = pieces
        self._shard = shard
        self.num_workers = num_workers
        self.ramp = ramp
        self.batch_size = batch_size

    def __iter__(self) -> "BatchIterator":
        return BatchIterator(self)

    def start(self, start: Start) -> grain.DatasetIterator[Batch]:
        """A new iterator over this shard's pieces of batches of one size."""
        count = self.pieces_per_batch(start.batch_size)
        pieces = self._pieces(start, start.batch_size // self._shard[1] // count)
        own = grain.MapDataset.source(_ShardPieces(pieces, count, self._shard))
        stream = own.to_iter_dataset(_READ_OPTIONS)
        if self.num_workers > 0:
            stream = stream.mp_prefetch(
                grain.MultiprocessingOptions(self.num_workers, per_worker_buffer_size=2),
                worker_init_fn=functools.partial(_prepare_worker, own_prefix()),
            )
        return iter(stream)

    def pieces_per_batch(self, batch_size: int) -> int:
        """The number of pieces in this shard's part of a batch."""
        own = batch_size // self._shard[1]
        return 1 if self.num_workers == 0 else own // _piece_size(own)


class BatchIterator(grain.DatasetIterator[Batch]):
    """Iterates over a stream; unlike Grain's, its state is independent of the number of workers."""

    def __init__(self, stream: BatchStream) -> None:
        super().__init__()
        self._stream = stream
        self._running: grain.DatasetIterator[Batch] | None = None
        self._batch_size = stream.batch_size  # Of the running iterator.
        self._batches = self._examples = 0  # Served so far, over all shards.

    def __next__(self) -> Batch:
        batch_size = self._stream.ramp.batch_size(self._stream.batch_size, self._batches)
        if batch_size != self._batch_size:
            self.close()
            self._batch_size = batch_size
        try:
            pieces = self._next_pieces()
        except (OSError, RuntimeError) as error:
            explained = _worker_error(error)
            if explained is not None:
                raise explained from error
            # Stopping a job signals the workers too, but training still needs batches until it
            # ends.
            self.close()
            pieces = self._next_pieces()
        except UserError as error:
            raise UserError(f"{error} {_ADVICE}") from error
        self._batches += 1
        self._examples += batch_size
        if self._stream.num_workers == 0:  # There is only one piece.
            return pieces[0]
        # Copy out of the workers' shared memory, which would outlive the training if still in use.
        return {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}

    def _next_pieces(self) -> list[Batch]:
        if self._running is None:
            start = Start(self._batches, self._examples, self._batch_size)
            self._running = self._stream.start(start)
        return [next(self._running) for _ in range(self._stream.pieces_per_batch(self._batch_size))]

    def get_state(self) -> dict[str, int]:
        """Number of batches and of examples served so far, and the size of a full batch."""
        return {
            "position": self._batches,
            "examples": self._examples,
            "batch_size": self._stream.batch_size,
        }

    def set_state(self, state: dict[str, int]) -> None:
        """Continues after the given number of batches.

        Raises UserError for another batch size, with which a position means something else.
        """
        size, saved = self._stream.batch_size, state["batch_size"]
        if size != saved:
            raise UserError(
                f"The run was at batch {state['position']} of {saved} examples, but "
                f"config.training.batch_size is now {size}. Resume with "
                f"--config.training.batch_size={saved}; or start a new run in another --workdir, "
                "with --config.init_from=RUN for the weights of this one."
            )
        self.close()
        self._batches = state["position"]
        # Not in checkpoints from when all batches were full.
        self._examples = state.get("examples", self._batches * size)

    def close(self) -> None:
        """Stops the workers; asking for another batch restarts them."""
        if self._running is not None:
            self._running.close()
            self._running = None


class _ShardPieces(Sequence[Batch]):
    """One shard's pieces, selected from the pieces of all shards."""

    def __init__(
        self, pieces: grain.MapDataset[Batch], pieces_per_batch: int, shard: tuple[int, int]
    ) -> None:
        self._pieces = pieces
        self._pieces_per_batch = pieces_per_batch
        self._shard = shard

    def __len__(self) -> int:
        return len(self._pieces) // self._shard[1]

    def __getitem__(self, index: int) -> Batch:
        step, piece = divmod(index, self._pieces_per_batch)
        batch = step * self._shard[1] + self._shard[0]
        return self._pieces[batch * self._pieces_per_batch + piece]


def _worker_error(error: Exception) -> Exception | None:
    """The error to raise for one of the workers; None if they were told to stop."""
    ended = _ENDED.search(str(error))
    signal_number = -int(ended[1]) if ended else None
    if signal_number == signal.SIGTERM:
        return None
    # Writing to a page for which there is no space raises SIGBUS.
    if signal_number == signal.SIGBUS or getattr(error, "errno", None) == errno.ENOSPC:
        size = shutil.disk_usage(SHARED_MEMORY).total / 1e6
        return UserError(
            f"{SHARED_MEMORY}, through which worker processes pass batches, is full: its size is "
            f"{size:.0f} MB. Give the container more (docker run --shm-size=8g), or do not use "
            "worker processes: --config.data.num_workers=0."
        )
    if signal_number == signal.SIGKILL:
        return UserError(
            "A worker process that prepares batches was killed, as Linux does when memory runs "
            "out. Reduce config.data.num_workers or config.training.batch_size, or do not use "
            "worker processes: --config.data.num_workers=0."
        )
    return error


def _piece_size(batch_size: int) -> int:
    """The largest divisor of the batch size that is at most `_MAX_PIECE`."""
    return max(size for size in range(1, _MAX_PIECE + 1) if batch_size % size == 0)


def _prepare_worker(prefix: str | None, worker: int, num_workers: int) -> None:
    """Names this worker's shared memory; ends it when the training process dies, even by SIGKILL.

    Ctrl-C reaches the workers too, but training still needs batches until it ends.
    """
    del worker, num_workers
    use_prefix(prefix)
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def wait() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)  # Nobody is left to report to.

    threading.Thread(target=wait, daemon=True).start()
