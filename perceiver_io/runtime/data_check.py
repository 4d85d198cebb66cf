"""Reads every example of a dataset once to find broken ones and write a manifest."""

import collections
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from perceiver_io.data.pipeline.dataset import Dataset
from perceiver_io.data.pipeline.manifest import Entry, digest, write_manifest
from perceiver_io.data.pipeline.sources import broken_of, names_of
from perceiver_io.errors import UserError
from perceiver_io.progress import Progress
from perceiver_io.runtime import setup

# Examples queued for the threads at a time.
_BLOCK = 4096


class Checked(NamedTuple):
    """The results of a check.

    Attributes:
        manifest: the file; see `perceiver_io.data.pipeline.manifest`.
        sha256: of the manifest.
        num_examples: of each split, including broken ones.
        broken: for each split, the reason why an example cannot be read, by name.
        remarks: for each split, what is odd about an example that can be read, by name.
    """

    manifest: str
    sha256: str
    num_examples: dict[str, int]
    broken: dict[str, dict[str, str]]
    remarks: dict[str, dict[str, str]]

    @property
    def num_broken(self) -> int:
        """Number of broken examples in all splits."""
        return sum(map(len, self.broken.values()))

    def as_text(self) -> str:
        """A line for each split and each broken or odd example, and how to use the manifest."""
        lines = []
        for split, broken in self.broken.items():
            counts = f"{split}: {self.num_examples[split]} examples, {len(broken)} broken"
            remarks = self.remarks[split]
            for remark, count in collections.Counter(remarks.values()).items():
                counts += f", {count} {remark}"
            lines.append(counts)
            lines += [f"  {name}: {reason}" for name, reason in (broken | remarks).items()]
        flags = f"--config.data.manifest={self.manifest}"
        if self.num_broken:
            flags += " --config.data.broken_files=skip"
        return "\n".join(
            [*lines, f"manifest {self.manifest}, sha256 {self.sha256}", f"use {flags}"]
        )


def check_data(config: ConfigDict, splits: Sequence[str], output: Path) -> Checked:
    """Decodes all examples in parallel, as in evaluation, and writes the manifest.

    Args:
        config: with the data.
        splits: those to check; if empty, all.
        output: path of the manifest.

    Raises UserError if the data is missing, or if the manifest cannot be written.
    """
    dataset = setup.build_task(config).build_dataset(config.data)
    dataset.check_files()
    splits = list(dict.fromkeys(splits or dataset.source.splits))
    examples = {split: dataset.all_examples(split) for split in splits}
    entries, broken, remarks = [], {split: {} for split in splits}, {split: {} for split in splits}
    with Progress(sum(map(len, examples.values())), "examples") as progress:
        for split in splits:
            found = zip(names_of(examples[split]), _read(dataset, examples[split]), strict=True)
            for name, (sha256, told) in found:
                entries.append(Entry(split, name, sha256))
                if told is not None:
                    (broken if sha256 is None else remarks)[split][name] = told
                progress.advance()
    sha256 = write_manifest(output, entries)
    return Checked(str(output), sha256, {k: len(v) for k, v in examples.items()}, broken, remarks)


def _read(dataset: Dataset, examples: Sequence[Any]) -> Iterator[tuple[str | None, str | None]]:
    """For each example, its digest and remarks, or None and the reason why it cannot be read."""
    broken = broken_of(examples)

    def read(index: int) -> tuple[str | None, str | None]:
        if index in broken:
            return None, broken[index]
        try:
            raw = examples[index]
            return digest(raw), dataset.preparation.check(raw, np.random.default_rng(index))
        except UserError as error:
            return None, str(error)

    with ThreadPoolExecutor(os.cpu_count()) as executor:
        for start in range(0, len(examples), _BLOCK):
            yield from executor.map(read, range(start, min(start + _BLOCK, len(examples))))
