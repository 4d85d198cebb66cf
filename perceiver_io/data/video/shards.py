"""Videos prepared by `scripts/shard_videos.py`: small copies in a few large files.

A folder of shards has `index.json` and, for each shard, `SPLIT-00000.array_record` with its videos
and `SPLIT-00000.json` with their names and those of broken ones. The first and the last are written
when what they describe is complete.
"""

import dataclasses
import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import grain

from perceiver_io.config.annotations import Text
from perceiver_io.data.pipeline.sources import LeftOut, Source
from perceiver_io.data.video.recordings import LabelledRecording, Recording
from perceiver_io.errors import UserError


class ShardIndex(NamedTuple):
    """The content of `index.json`.

    Attributes:
        class_names: of the labels; None if there are none.
        num_shards: of each split.
        unlabelled_splits: those without labels.
        content: of each split, identifies the videos and the form of their copies.
    """

    class_names: list[str] | None
    num_shards: dict[str, int]
    unlabelled_splits: list[str]
    content: dict[str, str]


class Shard(NamedTuple):
    """The content of `SPLIT-00000.json`: names of videos, and of broken ones with the reason."""

    names: list[str]
    broken: dict[str, str]


@dataclasses.dataclass(frozen=True, kw_only=True)
class VideoShards(Source):
    """Videos with labels, each split in one or several array_record files.

    Attributes:
        root: the folder that `scripts/shard_videos.py` wrote.
    """

    root: Text

    @property
    def splits(self) -> tuple[str, ...]:
        """Those that were prepared."""
        return tuple(self._index.num_shards)

    @property
    def unlabelled_splits(self) -> tuple[str, ...]:
        """Those of the original data."""
        return tuple(self._index.unlabelled_splits)

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """Those of the original data."""
        names = self._index.class_names
        return None if names is None else tuple(names)

    @property
    def left_out(self) -> LeftOut:
        """The videos that could not be read when the shards were written."""
        broken = [name for split in self.splits for x in self._shards(split) for name in x.broken]
        return {"broken before": broken} if broken else {}

    def __call__(self, split: str) -> Sequence[LabelledRecording]:
        """The split's videos, read when indexed. Raises UserError if shards are missing."""
        names = [name for shard in self._shards(split) for name in shard.names]
        count = self._index.num_shards[split]
        return _Videos([str(record_file(self._path, split, i)) for i in range(count)], names)

    @property
    def _path(self) -> Path:
        return Path(self.root).expanduser()

    @property
    def _index(self) -> ShardIndex:
        return read_index(self._path)

    def _shards(self, split: str) -> tuple[Shard, ...]:
        return _read_shards(self._path, split, self._index.num_shards[split])


class _Videos(Sequence[LabelledRecording]):
    """The videos of some shards, with their `names`."""

    def __init__(self, paths: Sequence[str], names: Sequence[str]) -> None:
        self.names = names
        self._records = grain.sources.ArrayRecordDataSource(paths)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> LabelledRecording:
        if not 0 <= index < len(self):
            raise IndexError(index)
        return from_record(self._records[index])


def record_file(root: Path, split: str, number: int) -> Path:
    """The file with the videos of a shard."""
    return root / f"{split}-{number:05d}.array_record"


def to_record(video: bytes, name: str, label: int) -> bytes:
    """A video file as a record: a line of JSON, then the file."""
    return json.dumps(dict(name=name, label=label)).encode() + b"\n" + video


def from_record(record: bytes) -> LabelledRecording:
    """The video of a record."""
    head, _, video = record.partition(b"\n")
    entry = json.loads(head)
    return LabelledRecording(Recording(video, entry["name"]), entry["label"])


@functools.lru_cache
def read_index(root: Path) -> ShardIndex:
    """Reads the index of a folder of shards. Raises UserError if it has none."""
    return ShardIndex(**_read_json(root / "index.json"))


@functools.lru_cache(maxsize=8)
def _read_shards(root: Path, split: str, count: int) -> tuple[Shard, ...]:
    paths = [record_file(root, split, number).with_suffix(".json") for number in range(count)]
    missing = [path.name for path in paths if not path.exists()]
    if missing:
        raise UserError(
            f"{len(missing)} of {count} shards of the split {split!r} in {root} are missing, such "
            f"as {missing[0]}: run `python -m scripts.shard_videos` again, which continues."
        )
    return tuple(Shard(**_read_json(path)) for path in paths)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(
            f"Cannot read {path} ({error}): set config.data.root to a folder that "
            "`python -m scripts.shard_videos` has written."
        ) from error
