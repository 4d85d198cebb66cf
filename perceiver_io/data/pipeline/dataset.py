"""What every dataset is, and the pipeline that all of them share.

A dataset says what its examples are; `Dataset.load` says how they are shuffled, augmented, batched,
sharded over processes and prefetched. Arrays are NumPy; JAX is not used here.

The stream of a training run depends on the seed and nothing else: the example at position p,
counted over epochs, is augmented by a generator keyed by (seed, p); batch j holds the positions
from j * batch_size on; shard i of n takes the batches i, i + n, i + 2n ... Hence the order and the
content are the same for any number of workers, and the batches of all shards at one step, put one
behind the other, are the batch that a single process would have seen. A position in it is one
number: a run resumes with any number of workers, or of processes at the same global batch size.
"""

import abc
import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

import grain
import numpy as np

from perceiver_io.config.annotations import Natural
from perceiver_io.config.construct import listing
from perceiver_io.data.pipeline.batch_stream import Batch, BatchStream
from perceiver_io.errors import UserError

Example = dict[str, np.ndarray]
BatchSpec = dict[str, tuple[tuple[int, ...], np.dtype]]

# Examples that a worker process prepares at once. Large batches are put together from such pieces:
# they come sooner, and the buffers of many workers remain small.
_MAX_PIECE = 64


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dataset(abc.ABC):
    """Examples in named splits, served as batches. The fields are the `data` section of a config.

    A subclass gives `splits`, `source`, the two example functions, `collate` and `batch_spec`.
    Datasets are sent to worker processes: keep large things out of their fields.

    Attributes:
        splits: names that `load` accepts.
        unlabelled_splits: those of them whose truth is not published, for benchmarks' servers.
        num_workers: processes that prepare batches beside the training process; 0 uses one thread
            of the training process itself. Worker processes need absl's flags to be parsed, as in
            any program started by `absl.app.run`.
    """

    splits: ClassVar[tuple[str, ...]]
    unlabelled_splits: ClassVar[tuple[str, ...]] = ()
    num_workers: Natural

    @abc.abstractmethod
    def source(self, split: str) -> Sequence[Any]:
        """The split's raw examples, by index, cheap to send to another process."""

    @abc.abstractmethod
    def training_example(self, raw: Any, rng: np.random.Generator) -> Example:
        """One raw example prepared for training; all randomness comes from `rng`."""

    def training_examples(self, raw_examples: grain.MapDataset) -> grain.MapDataset[Example]:
        """The endless, shuffled and seeded raw examples, each prepared by `training_example`."""
        return raw_examples.random_map(self.training_example)

    @abc.abstractmethod
    def evaluation_example(self, raw: Any) -> Example:
        """One raw example prepared for evaluation, without randomness."""

    @abc.abstractmethod
    def collate(self, examples: Sequence[Example], *, training: bool) -> Batch:
        """One batch of examples, without `valid`; mixing across examples happens here."""

    @abc.abstractmethod
    def batch_spec(self, batch_size: int) -> BatchSpec:
        """Shape and dtype of each array of a batch, `valid` included."""

    def num_examples(self, split: str) -> int:
        """Size of the split over all shards. Raises UserError on an unknown split."""
        return len(self._checked_source(split))

    def check_labelled(self, split: str) -> None:
        """Raises UserError on a split that is unknown or empty, or whose truth is not published."""
        self.num_examples(split)
        if split in self.unlabelled_splits:
            labelled = [name for name in self.splits if name not in self.unlabelled_splits]
            raise UserError(
                f"The truth of the split {split!r} of {type(self).__name__} is not published, so "
                "that nothing can be learned or measured there: choose one of "
                f"{listing(labelled)}. What servers of benchmarks measure is written by "
                "`experiments.evaluate --submission=DIR`."
            )

    def load(
        self, split: str, *, batch_size: int, training: bool, seed: int, shard: tuple[int, int]
    ) -> grain.IterDataset[Batch]:
        """Batches of one shard of a split, each with a boolean array `valid` [batch_size].

        Args:
            split: one of `splits`.
            batch_size: examples per batch of this shard; the global batch is batch_size * shard[1].
            training: endless full batches, shuffled anew every epoch and augmented; else one pass
                in order, the last batches padded with zeros (valid False) so that every shard
                yields equally many.
            seed: of the order and the augmentation; evaluation does not depend on it.
            shard: (index of this process, number of processes).

        The iterators' `get_state` gives {"position": batches served, "batch_size": global};
        `set_state` resumes there.
        Raises UserError on an unknown split, and on a training batch larger than the split.
        """
        source = self._checked_source(split)
        piece = batch_size if self.num_workers == 0 else _piece_size(batch_size)
        if training:
            _check_batch_fits(split, batch_size, shard[1], len(source))
            pieces = self._training_batches(source, piece, seed)
        else:
            pieces = self._evaluation_batches(source, piece, batch_size // piece * shard[1])
        return BatchStream(
            pieces,
            pieces_per_batch=batch_size // piece,
            batch_size=batch_size * shard[1],
            shard=shard,
            num_workers=self.num_workers,
        )

    def _checked_source(self, split: str) -> Sequence[Any]:
        if split not in self.splits:
            raise UserError(
                f"{type(self).__name__} has no split {split!r}; choose one of "
                f"{', '.join(map(repr, self.splits))}."
            )
        source = self.source(split)
        if len(source) == 0:
            raise UserError(f"The split {split!r} of {type(self).__name__} has no examples.")
        return source

    def _training_batches(
        self, source: Sequence[Any], batch_size: int, seed: int
    ) -> grain.MapDataset[Batch]:
        # Endless. Grain's own repetition is one too long for it to count in batches of one.
        repeats = 2**62 // len(source)
        raw_examples = grain.MapDataset.source(source).seed(seed).shuffle().repeat(repeats)

        def collate(examples: Sequence[Example]) -> Batch:
            batch = self.collate(examples, training=True)
            return batch | {"valid": np.ones(batch_size, bool)}

        examples = self.training_examples(raw_examples)
        return examples.batch(batch_size, batch_fn=collate)

    def _evaluation_batches(
        self, source: Sequence[Any], batch_size: int, multiple: int
    ) -> grain.MapDataset[Batch]:
        """Padded batches, their number a multiple of `multiple`."""

        def collate(examples: Sequence[Example]) -> Batch:
            batch = self.collate(examples, training=False)
            return _pad(batch | {"valid": np.ones(len(examples), bool)}, batch_size)

        examples = grain.MapDataset.source(source).map(self.evaluation_example)
        batches = examples.batch(batch_size, batch_fn=collate)
        missing = -len(batches) % multiple
        if missing == 0:
            return batches
        spec = self.batch_spec(batch_size)
        padding = grain.MapDataset.range(missing).map(
            lambda _: {name: np.zeros(*array) for name, array in spec.items()}
        )
        return grain.MapDataset.concatenate([batches, padding])


def _piece_size(batch_size: int) -> int:
    """The largest divisor of the batch size up to a limit; even if that is, to keep pairs whole."""
    step = 1 if batch_size % 2 else 2
    return max(size for size in range(step, _MAX_PIECE + 1, step) if batch_size % size == 0)


def _check_batch_fits(split: str, batch_size: int, num_shards: int, num_examples: int) -> None:
    if batch_size * num_shards > num_examples:
        raise UserError(
            f"A training batch of {batch_size * num_shards} examples ({batch_size} on each of "
            f"{num_shards} processes) is larger than the split {split!r}, which has "
            f"{num_examples}; set config.training.batch_size to at most {num_examples}."
        )


def _pad(batch: Batch, batch_size: int) -> Batch:
    missing = batch_size - len(batch["valid"])
    if missing == 0:
        return batch
    return {
        name: np.concatenate([array, np.zeros((missing, *array.shape[1:]), array.dtype)])
        for name, array in batch.items()
    }
