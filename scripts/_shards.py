"""Writes shards of videos, see `perceiver_io.data.video.shards`."""

import hashlib
import json
import multiprocessing
import os
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

from array_record.python import array_record_module

from perceiver_io.data.pipeline.sources import Source, names_of
from perceiver_io.data.video.recordings import LabelledRecording
from perceiver_io.data.video.shards import Shard, ShardIndex, read_index, record_file, to_record
from perceiver_io.errors import UserError
from perceiver_io.progress import Progress
from scripts._transcoding import CopyForm, transcode


class Work(NamedTuple):
    """A shard to write.

    Attributes:
        output: its file.
        examples: its videos.
        names: their names in the data.
        form: of the copies.
    """

    output: Path
    examples: Sequence[LabelledRecording]
    names: Sequence[str]
    form: CopyForm


def write_shards(
    source: Source,
    splits: Sequence[str],
    output: Path,
    *,
    form: CopyForm,
    shard_size: int,
    num_workers: int,
) -> dict[str, Shard]:
    """Writes the shards that are not there yet; returns names and broken videos of each split.

    Args:
        source: of `LabelledRecording`s.
        splits: those to write.
        output: a folder: new, or with some of the same shards, or with other splits.
        form: of the copies.
        shard_size: videos in a shard.
        num_workers: processes; 0 writes in this one.

    Raises UserError if the folder has shards of other videos or of another form.
    """
    works = {}
    for split in splits:
        examples = source(split)
        if not isinstance(examples[0], LabelledRecording):
            raise UserError(f"The examples of the split {split!r} are no videos with labels.")
        works[split] = list(_works(examples, split, output, form, shard_size))
    _check_index(source, works, output)
    todo = [
        work
        for split in works.values()
        for work in split
        if not work.output.with_suffix(".json").exists()
    ]
    with Progress(sum(len(work.examples) for work in todo), "videos") as progress:
        for count in _run(todo, num_workers):
            progress.advance(count)
    return {split: _joined(works[split]) for split in splits}


def write_shard(work: Work) -> int:
    """Writes a shard and the names of its videos; returns how many there are, broken or not."""
    names, broken = [], {}
    partial = work.output.with_name(f".{work.output.name}.partial")
    writer = array_record_module.ArrayRecordWriter(str(partial), "group_size:1")
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy.mp4"
        for name, example in zip(work.names, work.examples, strict=True):
            try:
                transcode(example.recording, copy, work.form)
            except UserError as error:
                broken[name] = str(error)
                continue
            writer.write(to_record(copy.read_bytes(), name, example.label))
            names.append(name)
    writer.close()
    os.replace(partial, work.output)
    _write_json(work.output.with_suffix(".json"), Shard(names, broken))
    return len(work.examples)


def _works(
    examples: Sequence[LabelledRecording], split: str, output: Path, form: CopyForm, size: int
) -> Iterator[Work]:
    names = names_of(examples)
    for number, start in enumerate(range(0, len(examples), size)):
        stop = min(start + size, len(examples))
        part = [examples[index] for index in range(start, stop)]
        yield Work(record_file(output, split, number), part, names[start:stop], form)


def _check_index(source: Source, works: dict[str, list[Work]], output: Path) -> None:
    """Writes the index, or adds these splits to the one that is there.

    Raises UserError if that has the same splits with another content, or other classes.
    """
    path = output / "index.json"
    class_names = None if source.class_names is None else list(source.class_names)
    num_shards = {split: len(parts) for split, parts in works.items()}
    content = {split: _digest(parts) for split, parts in works.items()}
    if path.exists():
        known = read_index(output)
        if known.class_names != class_names or known.content | content != content | known.content:
            raise UserError(
                f"{output} has shards of other videos, or with other settings: give the same ones "
                "to continue, or another --output."
            )
        num_shards, content = known.num_shards | num_shards, known.content | content
    splits = [split for split in source.splits if split in content]
    index = ShardIndex(
        class_names=class_names,
        num_shards={split: num_shards[split] for split in splits},
        unlabelled_splits=[split for split in splits if split in source.unlabelled_splits],
        content={split: content[split] for split in splits},
    )
    output.mkdir(parents=True, exist_ok=True)
    _write_json(path, index)
    read_index.cache_clear()


def _digest(works: Sequence[Work]) -> str:
    """Identifies the shards of a split: their videos, which part of each, and their form."""
    content = [
        [
            work.output.name,
            work.names,
            [(x.label, x.recording.start, x.recording.stop) for x in work.examples],
            work.form,
        ]
        for work in works
    ]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _run(works: Sequence[Work], num_workers: int) -> Iterator[int]:
    if not num_workers:
        yield from map(write_shard, works)
        return
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(num_workers, mp_context=spawn) as executor:
        yield from executor.map(write_shard, works)


def _joined(works: Sequence[Work]) -> Shard:
    shards = [Shard(**json.loads(x.output.with_suffix(".json").read_text())) for x in works]
    broken = {name: reason for shard in shards for name, reason in shard.broken.items()}
    return Shard([name for shard in shards for name in shard.names], broken)


def _write_json(path: Path, content: NamedTuple) -> None:
    """Writes a file that is complete or not there."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(json.dumps(content._asdict(), indent=1))
    os.replace(partial, path)
