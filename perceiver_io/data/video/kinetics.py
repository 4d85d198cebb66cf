"""Kinetics: the official tables of clips, and folders of videos."""

import csv
import dataclasses
import functools
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from perceiver_io.config.annotations import Text
from perceiver_io.data.pipeline.sources import LeftOut, ReadOnUse, Source
from perceiver_io.data.video.recordings import LabelledRecording, Recording
from perceiver_io.data.video.video_folder import VIDEO_SUFFIXES
from perceiver_io.errors import UserError

# Names of the table and of the folder of each split, in the releases and their copies.
_NAMES = {
    "train": ("train",),
    "validation": ("validate", "val", "validation"),
    "test": ("test",),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Kinetics(Source):
    """Clips of 10 s, each of one class, such as the 700 of Kinetics-700-2020 (Smaira et al. 2020).

    `root`, or a folder `annotations` in it, has the official tables `train.csv`, `validate.csv` (or
    `val.csv`) and `test.csv`, with the columns `label`, `youtube_id`, `time_start` and `time_end`.
    `root` has a folder for each table, named as it is or as it is elsewhere, with the videos or
    with folders of them. Videos are named `ID_000010_000020.mp4`, after id, start and end, or
    `ID.mp4`; they may have any extension of a video. Labels follow the sorted names in the table
    for training.

    Attributes:
        root: the folder.
        whole_videos: whether the files are the complete videos, instead of their clips.
    """

    root: Text
    whole_videos: bool = False

    @property
    def splits(self) -> tuple[str, ...]:
        """Those that have a table. Raises UserError if there is none for training."""
        self._table("train")
        return tuple(split for split in _NAMES if _tables(self._path, split))

    @property
    def unlabelled_splits(self) -> tuple[str, ...]:
        """Those whose table has no labels."""
        return tuple(
            split for split in self.splits if any(row.label is None for row in self._rows(split))
        )

    @property
    def class_names(self) -> tuple[str, ...]:
        """The labels in the table for training. Raises UserError about rows without one."""
        labels = {row.label for row in self._rows("train")}
        if not labels or None in labels:
            raise UserError(f"{self._table('train')} must have a label in each of its rows.")
        return tuple(sorted(labels))

    @property
    def left_out(self) -> LeftOut:
        """Clips without a video, and videos without a clip."""
        missing, others = [], []
        for split in self.splits:
            files, used = _videos(self._path, split), set()
            for row in self._rows(split):
                path = row.find(files)
                if path is None:
                    missing.append(row.name)
                else:
                    used.add(path)
            others += [str(path) for path in files.values() if path not in used]
        kinds = {"clips without a video": missing, "videos that no table lists": others}
        return {kind: paths for kind, paths in kinds.items() if paths}

    def __call__(self, split: str) -> Sequence[LabelledRecording]:
        """The split's clips that have a video; those of an unlabelled split have the label -1.

        Raises UserError for tables that are missing or wrong, and if no clip has a video.
        """
        return ReadOnUse(functools.partial(_examples, self, split))

    @property
    def _path(self) -> Path:
        return Path(self.root).expanduser()

    def _table(self, split: str) -> Path:
        """The table of a split. Raises UserError if it is missing."""
        found = _tables(self._path, split)
        if not found:
            raise UserError(
                f"There is no table {self._path / _NAMES[split][0]}.csv: set config.data.root to a "
                "folder with the official tables of Kinetics, beside folders of the videos."
            )
        return found[0]

    def _rows(self, split: str) -> list["_Row"]:
        return _read(self._table(split))


class _Row(NamedTuple):
    """A clip in a table."""

    video: str
    start: float
    stop: float
    label: str | None

    @property
    def name(self) -> str:
        """How the clip's file is named."""
        return f"{self.video}_{self.start:06.0f}_{self.stop:06.0f}"

    def find(self, files: dict[str, Path]) -> Path | None:
        """The file of the clip, or else of its video."""
        return files.get(self.name) or files.get(self.video)


@functools.lru_cache(maxsize=8)
def _examples(source: Kinetics, split: str) -> list[LabelledRecording]:
    labels = {name: label for label, name in enumerate(source.class_names)}
    files = _videos(source._path, split)
    found = []
    for row in source._rows(split):
        if row.label is not None and row.label not in labels:
            raise UserError(
                f"{source._table(split)} has the label {row.label!r}, which "
                f"{source._table('train')} lacks: use tables of one release."
            )
        path = row.find(files)
        if path is not None:
            times = (row.start, row.stop) if source.whole_videos else ()
            recording = Recording(path, row.name, *times)
            found.append(LabelledRecording(recording, labels.get(row.label, -1)))
    if not found:
        raise UserError(
            f"There is no video for any clip of {source._table(split)}, such as "
            f"{source._rows(split)[0].name}.mp4, in the folders "
            f"{', '.join(str(source._path / name) for name in _NAMES[split])}: put them there."
        )
    return found


def _tables(root: Path, split: str) -> list[Path]:
    """The tables of a split, of which the first counts."""
    places = [root / f"{name}.csv" for name in _NAMES[split]]
    places += [root / "annotations" / path.name for path in places]
    return [path for path in places if path.exists()]


@functools.lru_cache
def _read(table: Path) -> list[_Row]:
    """The rows of a table that is not empty."""
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            found = [_row(cells) for cells in csv.DictReader(file)]
    except (OSError, UnicodeDecodeError, csv.Error, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"Cannot read {table} ({error!r}): it must have the columns label, youtube_id, "
            "time_start, time_end, with times in seconds. Copy the official tables again."
        ) from error
    if not found:
        raise UserError(f"{table} has no rows: copy the official tables again.")
    return found


def _row(cells: Mapping[str, str]) -> _Row:
    start, stop = float(cells["time_start"]), float(cells["time_end"])
    return _Row(cells["youtube_id"], start, stop, cells.get("label") or None)


@functools.lru_cache
def _videos(root: Path, split: str) -> dict[str, Path]:
    """The videos in the folders of a split and below, by their names without extension."""
    found: dict[str, Path] = {}
    for name in _NAMES[split]:
        for place, folders, files in os.walk(root / name):
            folders.sort()
            for file in sorted(files):
                stem, extension = os.path.splitext(file)
                if extension.lower() in VIDEO_SUFFIXES and not file.startswith("."):
                    found.setdefault(stem, Path(place, file))
    return found
