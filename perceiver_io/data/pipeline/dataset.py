"""The components of a dataset, and the input pipeline that all datasets share.

A dataset is a `Source` of raw examples, a `Preparation` that turns them into arrays, and a number
of worker processes; `Composed` builds it from the `data` section of a config. `Dataset.load`
shuffles, batches, shards over processes and prefetches. Arrays are NumPy; JAX is not used here.

The training stream depends only on the seed: the example at position p, counted over epochs, is
prepared with a generator keyed by (seed, p); each batch starts where the last one ended, and shard
i of n takes the i-th of its n equal parts. Hence order and content are the same for any number of
workers, and the batches of all shards at one step, concatenated, are the batch that a single
process would have seen. The state of the stream is how many batches and examples it has served: a
run can be resumed with any number of workers, and with any number of processes at the same global
batch size. In evaluation the generator is keyed by the position alone, so that random preparation
is the same each time.
"""

import abc
import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar, Literal, NamedTuple

import grain
import numpy as np

from perceiver_io.config.annotations import Normalization, Workers
from perceiver_io.config.construct import listing
from perceiver_io.data.pipeline.batch_ramp import ALWAYS_FULL, BatchRamp
from perceiver_io.data.pipeline.batch_stream import Batch, BatchStream, Start
from perceiver_io.data.pipeline.manifest import read_manifest
from perceiver_io.data.pipeline.sources import (
    Source,
    broken_of,
    endless,
    left_out_clause,
    names_of,
    shortened,
    without,
)
from perceiver_io.errors import UserError

Example = dict[str, np.ndarray]
Spec = dict[str, tuple[tuple[int, ...], np.dtype]]

# The settings common to all datasets.
_SHARED = ("num_workers", "manifest", "broken_files")


class Numbered(NamedTuple):
    """A raw example, and the number of training examples before it."""

    position: int
    raw: Any


class Preparation(abc.ABC):
    """Turns raw examples into arrays of fixed shapes; sent to worker processes.

    Attributes:
        numbered: whether training examples are passed as `Numbered`, for preparation that changes
            in the course of training.
        normalization: mean and standard deviation of each channel, for values from 0 to 1; the
            model applies it on the device. None: inputs are not normalised.
    """

    numbered: ClassVar[bool] = False
    normalization: Normalization | None = None

    @abc.abstractmethod
    def training_example(self, raw: Any, rng: np.random.Generator) -> Example:
        """Prepares one raw example for training; all randomness comes from `rng`."""

    @abc.abstractmethod
    def evaluation_example(self, raw: Any, rng: np.random.Generator) -> Example:
        """Prepares one raw example for evaluation; all randomness comes from `rng`."""

    @abc.abstractmethod
    def example_spec(self) -> Spec:
        """Shape and dtype of each array of an example."""

    def in_training(self) -> "tuple[Preparation, ...]":
        """The preparations that take turns in training, one for each batch; by default this one.

        In as many consecutive batches as there are preparations, each has one turn, in an order
        that is drawn anew each time.
        """
        return (self,)

    def for_prediction(self) -> dict[str, Any]:
        """What is needed to prepare inputs as in evaluation; stored with trained weights."""
        return {}

    def check(self, raw: Any, rng: np.random.Generator) -> str | None:
        """Reads all that training or evaluation may read of one raw example.

        Returns what is odd about it, such as a video without sound. Raises UserError if it cannot
        be read.
        """
        self.evaluation_example(raw, rng)
        return None

    def notice(self, examples: Sequence[Any]) -> str | None:
        """What to tell about a split before it is used, such as the number that is cropped.

        Raises UserError about examples that cannot be prepared.
        """
        del examples
        return None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dataset:
    """Examples in named splits, served as batches.

    Attributes:
        source: of the raw examples.
        preparation: turns them into arrays.
        num_workers: number of processes that prepare batches; 0 uses a thread of the training
            process. Worker processes need absl's flags to be parsed, as in any program started by
            `absl.app.run`.
        name: for error messages.
        manifest: file with the results of `experiments.check_data`; None: there is none.
        broken_files: whether examples that are unreadable according to the manifest or the folder
            listing raise an error at the start or are skipped.
    """

    source: Source
    preparation: Preparation
    num_workers: Workers = 0
    name: str
    manifest: str | None = None
    broken_files: Literal["stop", "skip"] = "stop"

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """Names of the classes; None where there are no classes."""
        return self.source.class_names

    @property
    def normalization(self) -> Normalization | None:
        """The model's input normalisation, see `Preparation`."""
        return self.preparation.normalization

    def batch_spec(self, batch_size: int) -> Spec:
        """Shape and dtype of each array of a batch, `valid` included."""
        examples = self.preparation.example_spec() | {"valid": ((), np.dtype(bool))}
        return {name: ((batch_size, *shape), dtype) for name, (shape, dtype) in examples.items()}

    def in_training(self) -> "tuple[Dataset, ...]":
        """This dataset with each of the preparations that take turns in training."""
        preparations = self.preparation.in_training()
        return tuple(dataclasses.replace(self, preparation=one) for one in preparations)

    def for_prediction(self) -> dict[str, Any]:
        """What trained weights need in order to be used without the data.

        The source's and the preparation's own entries, `normalization` and `class_names`.
        """
        own = self.source.for_prediction() | self.preparation.for_prediction()
        return own | {"normalization": self.normalization, "class_names": self.class_names}

    def check_files(self) -> None:
        """Raises UserError if a file is missing or damaged that tells the classes or the tokens."""
        self.for_prediction()

    def num_examples(self, split: str) -> int:
        """Size of the split over all shards. Raises UserError on an unknown split."""
        return len(self.examples(split))

    @property
    def manifest_sha256(self) -> str | None:
        """Identifies the content of the data; None without a manifest."""
        return None if self.manifest is None else read_manifest(self.manifest).sha256

    def summary(self, splits: Iterable[str]) -> str:
        """One line with the classes, the size of each split, and the files left out."""
        names, left_out = self.class_names, dict(self.source.left_out)
        parts = [] if names is None else [f"{len(names)} classes ({shortened(names)})"]
        for split in dict.fromkeys(splits):
            examples = self.all_examples(split)
            broken = self._broken(split, examples)
            notice = self.preparation.notice(examples)
            told = f" ({notice})" if notice else ""
            parts.append(f"{split} {len(examples) - len(broken)}{told}")
            if broken:
                all_names = names_of(examples)
                left_out[f"broken in {split}"] = [all_names[index] for index in broken]
        return f"{self.name}: {', '.join(parts)}{left_out_clause(left_out)}"

    def check_labelled(self, split: str) -> None:
        """Raises UserError on a split that is unknown, empty, or without published ground truth."""
        self.num_examples(split)
        unlabelled = self.source.unlabelled_splits
        if split in unlabelled:
            raise UserError(
                f"The ground truth of the split {split!r} of {self.name} is not published, so it "
                "cannot be used for training or evaluation: choose one of "
                f"{listing(name for name in self.source.splits if name not in unlabelled)}. To "
                "write a submission for the benchmark's server, run "
                "`experiments.evaluate --submission=DIR`."
            )

    def load(
        self,
        split: str,
        *,
        batch_size: int,
        training: bool,
        seed: int,
        shard: tuple[int, int],
        ramp: BatchRamp = ALWAYS_FULL,
    ) -> grain.IterDataset[Batch]:
        """Batches of one shard of a split, each with a boolean array `valid` [batch_size].

        Args:
            split: one of the source's splits.
            batch_size: examples per batch of this shard; the global batch is batch_size * shard[1].
            training: if True, endless full batches, reshuffled every epoch; else one pass in order,
                padded with zeros (valid False) so that every shard yields equally many batches.
            seed: of shuffling and augmentation; not used in evaluation.
            shard: (index of this process, number of processes).
            ramp: how batches grow to this size; each microbatch must divide evenly over the shards.

        The iterator's `get_state` returns {"position": batches served, "examples": examples served,
        "batch_size": global batch size}; `set_state` resumes from there. Raises UserError on an
        unknown split, and on a training batch larger than the split.
        """
        examples = self.examples(split)
        whole = batch_size * shard[1]
        if training:
            _check_batch_fits(split, batch_size, shard[1], len(examples))
            pieces = functools.partial(self._training_batches, examples, seed)
        else:
            pieces = functools.partial(self._evaluation_batches, examples, whole)
        return BatchStream(
            pieces, batch_size=whole, ramp=ramp, shard=shard, num_workers=self.num_workers
        )

    def examples(self, split: str) -> Sequence[Any]:
        """The raw examples of a split, without broken ones.

        Raises UserError on a split that is unknown or empty, on broken examples unless they are to
        be skipped, and if the examples are not those of the manifest.
        """
        examples = self.all_examples(split)
        broken = self._broken(split, examples)
        if not broken:
            return examples
        if self.broken_files == "stop":
            names = names_of(examples)
            shown = [f"{names[index]}: {reason}" for index, reason in broken.items()]
            raise UserError(
                f"{len(broken)} of {len(examples)} examples of the split {split!r} of {self.name} "
                f"cannot be read ({shortened(shown)}): replace or remove them, or skip them with "
                "--config.data.broken_files=skip."
            )
        return without(examples, broken.keys())

    def _broken(self, split: str, examples: Sequence[Any]) -> dict[int, str]:
        """The reason why an example is broken, by index."""
        found = broken_of(examples)
        if self.manifest is not None:
            found |= read_manifest(self.manifest).broken(split, names_of(examples))
        return dict(sorted(found.items()))

    def all_examples(self, split: str) -> Sequence[Any]:
        """As `examples`, including broken ones."""
        splits = self.source.splits
        if split not in splits:
            raise UserError(
                f"{self.name} has no split {split!r}; choose one of {', '.join(map(repr, splits))}."
            )
        examples = self.source(split)
        if len(examples) == 0:
            raise UserError(f"The split {split!r} of {self.name} has no examples.")
        return examples

    def _training_batches(
        self, examples: Sequence[Any], seed: int, start: Start, size: int
    ) -> grain.MapDataset[Batch]:
        """Batches of `size` examples from `start` on."""
        raw_examples = endless(examples, seed)
        preparations = self.preparation.in_training()
        if self.preparation.numbered or len(preparations) > 1:
            raw_examples = raw_examples.map_with_index(Numbered)
        prepare = self.preparation.training_example
        if len(preparations) > 1:
            prepare = _Turns(preparations, seed, start).training_example
        prepared = raw_examples.random_map(prepare)
        return prepared[start.examples :].batch(size, batch_fn=_collate)

    def _evaluation_batches(
        self, examples: Sequence[Any], multiple: int, start: Start, size: int
    ) -> grain.MapDataset[Batch]:
        """As `_training_batches`, padded to a multiple of `multiple` examples."""
        raw_examples = grain.MapDataset.source(examples)
        prepared = raw_examples.random_map(self.preparation.evaluation_example, seed=0)
        batches = prepared.batch(size, batch_fn=lambda rows: _pad(_collate(rows), size))
        missing = -len(batches) % (multiple // size)
        if missing > 0:
            spec = self.batch_spec(size)
            padding = grain.MapDataset.range(missing).map(
                lambda _: {name: np.zeros(*array) for name, array in spec.items()}
            )
            batches = grain.MapDataset.concatenate([batches, padding])
        return batches[start.examples // size :]


def turn(num_preparations: int, seed: int, batch: int) -> int:
    """The index of the preparation of a training batch, counted from 0; see `Preparation`."""
    start, place = divmod(batch, num_preparations)
    return int(np.random.default_rng((seed, start)).permutation(num_preparations)[place])


class _Turns(NamedTuple):
    """Preparations that take turns, for training batches of equal size."""

    preparations: tuple[Preparation, ...]
    seed: int
    start: Start

    def training_example(self, example: Numbered, rng: np.random.Generator) -> Example:
        """Prepares an example as its batch is."""
        ahead = (example.position - self.start.examples) // self.start.batch_size
        own = turn(len(self.preparations), self.seed, self.start.batches + ahead)
        preparation = self.preparations[own]
        return preparation.training_example(example if preparation.numbered else example.raw, rng)


class Composed:
    """Builds datasets from the keyword arguments of a source and of a preparation.

    These and those of `Dataset` are the `data` section of a config, and the signature.
    """

    def __init__(self, source: Callable[..., Source], preparation: Callable[..., Preparation]):
        self.source, self.preparation = source, preparation
        self.__name__ = source.__name__
        of_source, of_preparation = (inspect.signature(x).parameters for x in (source, preparation))
        of_dataset = inspect.signature(Dataset).parameters
        shared = {name: of_dataset[name] for name in _SHARED}
        parameters = {**of_source, **of_preparation, **shared}.values()
        self.__signature__ = inspect.Signature(
            [x.replace(kind=inspect.Parameter.KEYWORD_ONLY) for x in parameters]
        )

    def __call__(self, **settings: Any) -> Dataset:
        """Builds a dataset."""
        of_source = inspect.signature(self.source).parameters
        own = {name: settings.pop(name) for name in of_source if name in settings}
        shared = {name: settings.pop(name) for name in _SHARED if name in settings}
        return Dataset(
            source=self.source(**own),
            preparation=self.preparation(**settings),
            name=self.__name__,
            **shared,
        )


def _collate(examples: Sequence[Example]) -> Batch:
    batch = {name: np.stack([example[name] for example in examples]) for name in examples[0]}
    return batch | {"valid": np.ones(len(examples), bool)}


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
