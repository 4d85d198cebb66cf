"""AudioSet: the official tables of segments, and a folder of clips."""

import csv
import dataclasses
import functools
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from perceiver_io.config.annotations import Rate, Text
from perceiver_io.data.pipeline.dataset import Composed
from perceiver_io.data.pipeline.sources import LeftOut, ReadOnUse, Source
from perceiver_io.data.pipeline.splits import in_share
from perceiver_io.data.sound.balance import balanced
from perceiver_io.data.sound.folder import SOUND_SUFFIXES
from perceiver_io.data.sound.tagged import Tagged, TaggedPreparation
from perceiver_io.data.video.recordings import Recording
from perceiver_io.data.video.video_folder import VIDEO_SUFFIXES
from perceiver_io.errors import UserError

_TABLES = {
    "balanced": ("balanced_train_segments",),
    "unbalanced": ("unbalanced_train_segments",),
    "all": ("balanced_train_segments", "unbalanced_train_segments"),
}
_TEST = ("eval_segments",)
_CLASSES = "class_labels_indices.csv"
# What downloaders append to the name of a clip, such as _30000_40000.
_TIME = re.compile(r"_\d+(\.\d+)?$")


@dataclasses.dataclass(frozen=True, kw_only=True)
class AudioSet(Source):
    """Clips of 10 s with any number of tags, such as the 527 of AudioSet (Gemmeke et al. 2017).

    `root` has the official tables `class_labels_indices.csv`, `balanced_train_segments.csv`,
    `unbalanced_train_segments.csv` and `eval_segments.csv`, and for each of the last three a folder
    of the same name without `.csv`, in which there may be others. A clip is any file that FFmpeg
    reads, named after its YouTube id, with or without a `Y` before and times after it:
    `ID.mp4`, `YID.wav`, `ID_30.000_40.000.flac`. Segments without a clip are left out.

    Attributes:
        root: the folder.
        training: the tables to train on.
        held_out: the share of the training clips that becomes the validation split, the same at
            each start.
        whole_videos: whether the files are the complete videos, instead of their segments.
        class_balanced: whether rare classes are drawn as often in training as frequent ones.
    """

    root: Text
    training: Literal["balanced", "unbalanced", "all"] = "all"
    held_out: Rate = 0.01
    whole_videos: bool = False
    class_balanced: bool = False

    @property
    def splits(self) -> tuple[str, ...]:
        """train, validation unless nothing is held out for it, and test."""
        return ("train", "validation", "test") if self.held_out > 0 else ("train", "test")

    @property
    def class_names(self) -> tuple[str, ...]:
        """The display names of the classes. Raises UserError if their table is missing."""
        return tuple(_classes(self._path).values())

    @property
    def left_out(self) -> LeftOut:
        """The ids of segments that have no clip."""
        missing = [
            segment.name
            for table in (*_TABLES[self.training], *_TEST)
            if (self._path / f"{table}.csv").exists()
            for segment in _segments(self._path, table)
            if segment.path is None
        ]
        return {"segments without a clip": missing} if missing else {}

    def __call__(self, split: str) -> Sequence[Tagged]:
        """The split's clips, which are read when they are prepared.

        Raises UserError for tables that are missing or wrong.
        """
        examples = ReadOnUse(functools.partial(_examples, self, split))
        is_balanced = self.class_balanced and split == "train" and len(examples) > 0
        return balanced(examples) if is_balanced else examples

    @property
    def _path(self) -> Path:
        return Path(self.root).expanduser()


audioset = Composed(AudioSet, TaggedPreparation)


class _Segment(NamedTuple):
    """A line of a table; `path` is None if there is no clip."""

    name: str
    start: float
    stop: float
    tags: tuple[int, ...]
    path: Path | None


@functools.lru_cache(maxsize=8)
def _examples(source: AudioSet, split: str) -> list[Tagged]:
    root = source._path
    tables = _TEST if split == "test" else _TABLES[source.training]
    found = []
    for segment in (segment for table in tables for segment in _segments(root, table)):
        is_held_out = split != "test" and in_share(segment.name.encode(), source.held_out)
        if segment.path is None or (split != "test" and is_held_out != (split == "validation")):
            continue
        times = segment[1:3] if source.whole_videos else ()
        recording = Recording(segment.path, segment.name, *times)
        found.append(Tagged(recording, segment.tags, segment.name))
    return found


@functools.lru_cache
def _classes(root: Path) -> dict[str, str]:
    """The display name of each class by its machine id, in the order of the indices."""
    rows = list(_rows(root / _CLASSES))[1:]
    if [row[0] for row in rows] != [str(number) for number in range(len(rows))] or not rows:
        raise UserError(
            f"{root / _CLASSES} must have the lines `index,mid,display_name`, with indices 0, 1, 2 "
            "...: copy AudioSet's table again, or correct your own."
        )
    return {row[1]: row[2] for row in rows}


@functools.lru_cache
def _segments(root: Path, table: str) -> list[_Segment]:
    """The lines of a table, in order."""
    path, indices = root / f"{table}.csv", {mid: i for i, mid in enumerate(_classes(root))}
    files = _files(root / table)
    found = []
    for row in _rows(path):
        try:
            name, start, stop, labels = row
            tags = tuple(indices[label] for label in labels.split(","))
            times = float(start), float(stop)
        except (ValueError, KeyError) as error:
            raise UserError(
                f"{path} has a line {','.join(row)!r} that is not `id, start, end, labels` with "
                f"labels of {_CLASSES} ({error}): copy AudioSet's tables again, or correct yours."
            ) from error
        found.append(_Segment(name, *times, tags, files.get(name) or files.get(f"Y{name}")))
    return found


def _rows(path: Path) -> Iterator[list[str]]:
    """The lines of a table without comments."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = (line for line in file if not line.startswith("#") and line.strip())
            yield from csv.reader(lines, skipinitialspace=True)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"Cannot read {path} ({error}): set config.data.root to a folder with AudioSet's "
            "tables, from https://research.google.com/audioset/download.html."
        ) from error


def _files(folder: Path) -> dict[str, Path]:
    """The sounds and videos in a folder and below, by names without extension, and without times.

    Of a sound and a video of the same name, the video counts, since it has both.
    """
    found: dict[str, Path] = {}
    shortened: dict[str, Path] = {}
    for place, folders, names in os.walk(folder):
        folders.sort()
        paths = [Path(place, name) for name in sorted(names) if name[0] != "."]
        for path in sorted(filter(_is_recording, paths), key=_is_sound):
            found.setdefault(path.stem, path)
            stem = path.stem
            while (shorter := _TIME.sub("", stem)) != stem:
                shortened.setdefault(shorter, path)
                stem = shorter
    return shortened | found


def _is_recording(path: Path) -> bool:
    return path.suffix.lower() in SOUND_SUFFIXES | VIDEO_SUFFIXES


def _is_sound(path: Path) -> bool:
    return path.suffix.lower() in SOUND_SUFFIXES
