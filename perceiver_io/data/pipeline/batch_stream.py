"""The stream of batches that a dataset is served as: shards, worker processes, exact positions.

`grain.experimental.ElasticIterator` (0.2.18) has a state that does not depend on the shards either.
It is not used here, because it

- gives shard i of n the examples i, i + n ..., so that the rows of a batch come in another order
  for another number of processes, and pairs to be mixed are cut apart; here the shards side by side
  are the batch of a single process;
- drops the last examples of a pass, which an evaluation needs, padded;
- takes the position of another batch size without a word, where a resumed run would see another
  number of steps an epoch than its schedule was made for;
- has workers prepare whole batches, not pieces, and ends with them when somebody sends SIGTERM to
  all processes of a job; nor can it be told what a worker does when the training process is gone.
"""

import errno
import multiprocessing
import os
import re
import shutil
import signal
import threading
from collections.abc import Sequence

import grain
import numpy as np

from perceiver_io.errors import UserError

Batch = dict[str, np.ndarray]

# Elements are many examples each, so that a deep buffer would only cost memory.
_READ_OPTIONS = grain.ReadOptions(num_threads=1, prefetch_buffer_size=2)

# Grain's message when a worker process has ended.
_ENDED = re.compile(r"terminated unexpectedly with exit code (-?\d+)")
# Where worker processes put their batches.
_SHARED_MEMORY = "/dev/shm"


class BatchStream(grain.IterDataset[Batch]):
    """One shard's batches, prepared ahead in order, by worker processes or by a thread.

    Args:
        pieces: parts of equal size of the batches of all shards.
        pieces_per_batch: how many of them make a batch of one shard.
        batch_size: examples that the shards serve together at a time.
        shard: (index of the shard, number of shards).
        num_workers: number of worker processes; 0 uses a thread.
    """

    def __init__(
        self,
        pieces: grain.MapDataset[Batch],
        *,
        pieces_per_batch: int,
        batch_size: int,
        shard: tuple[int, int],
        num_workers: int,
    ) -> None:
        super().__init__()
        self._pieces = grain.MapDataset.source(_ShardPieces(pieces, pieces_per_batch, shard))
        self.num_workers = num_workers
        self.pieces_per_batch = pieces_per_batch
        self.batch_size = batch_size

    def __iter__(self) -> "BatchIterator":
        return BatchIterator(self)

    def start(self, position: int) -> grain.DatasetIterator[Batch]:
        """A new iterator over the pieces of the batches from `position` on."""
        first = position * self.pieces_per_batch
        stream = self._pieces[first:].to_iter_dataset(_READ_OPTIONS)
        if self.num_workers > 0:
            stream = stream.mp_prefetch(
                grain.MultiprocessingOptions(self.num_workers, per_worker_buffer_size=2),
                worker_init_fn=_end_with_parent,
            )
        return iter(stream)


class BatchIterator(grain.DatasetIterator[Batch]):
    """Serves a stream. Unlike Grain's own, its state does not depend on the number of workers."""

    def __init__(self, stream: BatchStream) -> None:
        super().__init__()
        self._stream = stream
        self._running: grain.DatasetIterator[Batch] | None = None
        self._position = 0

    def __next__(self) -> Batch:
        try:
            pieces = self._next_pieces()
        except (OSError, RuntimeError) as error:
            explained = _worker_error(error)
            if explained is not None:
                raise explained from error
            # Whoever stops a job signals the workers, too, but the training needs batches still.
            self.close()
            pieces = self._next_pieces()
        self._position += 1
        if self._stream.num_workers == 0:  # There is one piece.
            return pieces[0]
        # Copied out of the workers' shared memory, which would outlive the training if in use.
        return {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}

    def _next_pieces(self) -> list[Batch]:
        if self._running is None:
            self._running = self._stream.start(self._position)
        return [next(self._running) for _ in range(self._stream.pieces_per_batch)]

    def get_state(self) -> dict[str, int]:
        """Number of batches served so far, and examples in each of them over all shards."""
        return {"position": self._position, "batch_size": self._stream.batch_size}

    def set_state(self, state: dict[str, int]) -> None:
        """Continues as if that many batches had been served.

        Raises UserError if they were of another size: the number of a batch says something else.
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
        self._position = state["position"]

    def close(self) -> None:
        """Stops the workers; the next batch would start them again."""
        if self._running is not None:
            self._running.close()
            self._running = None


class _ShardPieces(Sequence[Batch]):
    """The pieces of every batch of one shard, out of those of all shards."""

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
        size = shutil.disk_usage(_SHARED_MEMORY).total / 1e6
        return UserError(
            f"{_SHARED_MEMORY}, through which worker processes pass batches, is full: its size is "
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


def _end_with_parent(worker: int, num_workers: int) -> None:
    """Ends this worker process when the training process is gone, even by SIGKILL.

    Ctrl-C reaches all processes, but the training needs batches until it has stopped.
    """
    del worker, num_workers
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def wait() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)  # Nobody is left to tell.

    threading.Thread(target=wait, daemon=True).start()
