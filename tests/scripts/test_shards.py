"""Shards of videos: what is copied, broken videos, and resuming."""

import dataclasses
import pickle
from pathlib import Path

import numpy as np
import pytest

from perceiver_io.data.pipeline.sources import Source
from perceiver_io.data.video import shards
from perceiver_io.data.video.recordings import (
    ClipForm,
    LabelledRecording,
    Recording,
    count_frames,
    read_clip,
)
from perceiver_io.errors import UserError
from scripts import _shards
from scripts._transcoding import CopyForm, transcode
from tests.helpers.videos import beep, brightness, gray, make, noise

FORM = CopyForm(
    shorter_side=24, frame_rate=25, quality=18, sound_bit_rate=128_000, key_frame_every=5
)
CLIP = ClipForm(num_frames=4, image_size=(24, 32))


@dataclasses.dataclass(frozen=True)
class Folder(Source):
    """Seven videos of two classes, one of which is damaged."""

    root: Path
    stop: float = float("inf")

    splits = ("train", "validation")
    class_names = ("dark", "bright")

    def __call__(self, split):
        pattern = {"train": "*.mkv", "validation": "[01].mkv"}[split]
        return [
            LabelledRecording(Recording(path, path.stem, stop=self.stop), int(path.stem) % 2)
            for path in sorted(self.root.glob(pattern))
        ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("videos")
    for number in range(7):
        tone = {0: beep(0.8, 0.2, 0.6, rate=44_100)}
        make(root / f"{number}.mkv", gray(np.arange(20) + 30 * number), sound=tone)
    (root / "3.mkv").write_bytes((root / "3.mkv").read_bytes()[:3000])
    return Folder(root)


def write(folder, output, **settings):
    settings = dict(form=FORM, shard_size=3, num_workers=0) | settings
    return _shards.write_shards(folder, ("train",), output, **settings)


def test_a_copy_is_smaller_upright_and_at_a_constant_rate(tmp_path):
    path = make(tmp_path / "a.mkv", noise(20, 60, 90), rate=10)
    assert transcode(Recording(path, "a", start=0.4, stop=1.4), tmp_path / "b.mp4", FORM) == 25
    copy = Recording(tmp_path / "b.mp4", "b")
    assert count_frames(copy, CLIP) == 25
    assert not read_clip(copy, CLIP).has_sound, "nor has the original"
    assert read_clip(copy, ClipForm(num_frames=1, image_size=(24, 36))).frames.shape[1:3] == (
        24,
        36,
    )
    with pytest.raises(UserError, match="frame_rate=7 must be a divisor of 48,000"):
        transcode(copy, tmp_path / "c.mp4", FORM._replace(frame_rate=7))


def test_shards_have_all_videos_but_the_broken_ones(folder, tmp_path):
    written = write(folder, tmp_path)["train"]
    assert written.names == ["0", "1", "2", "4", "5", "6"]
    assert list(written.broken) == ["3"] and "3 " in written.broken["3"]
    source = shards.VideoShards(root=str(tmp_path))
    assert source.splits == ("train",) and source.class_names == ("dark", "bright")
    assert source.left_out == {"broken before": ["3"]}
    videos = pickle.loads(pickle.dumps(source("train")))
    assert videos.names == written.names
    assert [video.label for video in videos] == [0, 1, 0, 0, 1, 0]
    for video in videos:
        clip = read_clip(video.recording, CLIP, 10)
        expected = np.arange(10, 14) + 30 * int(video.name)
        np.testing.assert_allclose(brightness(clip.frames), expected, atol=2.5)
        assert clip.has_sound and 0.4 < np.abs(clip.audio).max() < 0.6


def test_an_interrupted_run_continues_and_gives_the_same(folder, tmp_path, monkeypatch):
    write(folder, tmp_path / "whole")
    copied, copy = [], _shards.transcode

    def interrupted(recording, *args):
        if len(copied) == 4:
            raise KeyboardInterrupt
        copied.append(recording.name)
        return copy(recording, *args)

    monkeypatch.setattr(_shards, "transcode", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write(folder, tmp_path / "parts")
    with pytest.raises(UserError, match=r"2 of 3 shards .*train-00001.json: .*continues"):
        shards.VideoShards(root=str(tmp_path / "parts"))("train")
    monkeypatch.setattr(
        _shards, "transcode", lambda x, *args: copied.append(x.name) or copy(x, *args)
    )
    shards._read_shards.cache_clear()
    write(folder, tmp_path / "parts")
    # Only the shard that was not complete is begun again.
    assert copied == ["0", "1", "2", "3", "3", "4", "5", "6"]
    assert_same(tmp_path / "whole", tmp_path / "parts")


def assert_same(first, second):
    """Compares all files, and the videos in them to what little an encoder may vary."""
    names = [sorted(path.name for path in folder.iterdir()) for folder in (first, second)]
    assert names[0] == names[1] and len(names[0]) == 7
    for name in names[0]:
        if name.endswith(".json"):
            assert (first / name).read_text() == (second / name).read_text()
    videos = (shards.VideoShards(root=str(folder))("train") for folder in (first, second))
    for one, other in zip(*videos, strict=True):
        assert (one.name, one.label) == (other.name, other.label)
        clips = [
            read_clip(x.recording, dataclasses.replace(CLIP, num_frames=20)) for x in (one, other)
        ]
        assert clips[0].num_frames == clips[1].num_frames == 20
        np.testing.assert_allclose(*(clip.frames.astype(int) for clip in clips), atol=8)
        np.testing.assert_allclose(*(clip.audio for clip in clips), atol=1e-3)


def test_shards_of_another_form_are_not_mixed(folder, tmp_path):
    write(folder, tmp_path)
    with pytest.raises(UserError, match="shards of other videos, or with other settings"):
        write(folder, tmp_path, form=FORM._replace(quality=30))
    with pytest.raises(UserError, match="shards of other videos, or with other settings"):
        write(folder, tmp_path, shard_size=2)
    with pytest.raises(UserError, match="shards of other videos, or with other settings"):
        write(dataclasses.replace(folder, stop=0.4), tmp_path)
    other_classes = dataclasses.replace(folder)
    object.__setattr__(other_classes, "class_names", ("dim", "bright"))
    with pytest.raises(UserError, match="shards of other videos, or with other settings"):
        _shards.write_shards(
            other_classes, ("validation",), tmp_path, form=FORM, shard_size=3, num_workers=0
        )


def test_splits_are_added_later(folder, tmp_path, monkeypatch):
    settings = dict(form=FORM, shard_size=3, num_workers=0)
    _shards.write_shards(folder, ("validation",), tmp_path, **settings)
    assert shards.VideoShards(root=str(tmp_path)).splits == ("validation",)
    _shards.write_shards(folder, ("train",), tmp_path, **settings)
    source = shards.VideoShards(root=str(tmp_path))
    assert source.splits == ("train", "validation")
    assert [len(source(split)) for split in source.splits] == [6, 2]
    monkeypatch.setattr(_shards, "transcode", lambda *_: pytest.fail("nothing is left to do"))
    both = _shards.write_shards(folder, folder.splits, tmp_path, **settings)
    assert {split: len(shard.names) for split, shard in both.items()} == {
        "train": 6,
        "validation": 2,
    }


@pytest.mark.slow
def test_shards_written_by_several_processes_are_the_same(folder, tmp_path):
    for workers in (0, 2):
        write(folder, tmp_path / str(workers), num_workers=workers)
    assert_same(tmp_path / "0", tmp_path / "2")


def test_what_is_not_a_folder_of_shards(tmp_path):
    with pytest.raises(UserError, match="Cannot read .*index.json .*scripts.shard_videos"):
        _ = shards.VideoShards(root=str(tmp_path)).splits
