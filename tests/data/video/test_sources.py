"""Kinetics and folders of videos: what is found, and how it is labelled."""

import pathlib
import pickle

import pytest

from perceiver_io.data.pipeline.manifest import digest
from perceiver_io.data.video.kinetics import Kinetics
from perceiver_io.data.video.recordings import LabelledRecording, Recording
from perceiver_io.data.video.video_folder import VideoFolder
from perceiver_io.errors import UserError

TRAIN = """label,youtube_id,time_start,time_end,split
yoga,---QUuC4vJs,84,94,train
"tying knot (not on a tie)",abc_000001,0,10,train
yoga,missing_one,5,15,train
yoga,whole_video,3,13,train
"""
VALIDATION = "label,youtube_id,time_start,time_end,split\nyoga,v1,1,11,val\n"
TEST = "youtube_id,time_start,time_end,split\nt1,2,12,test\n"


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"video")
    return path


@pytest.fixture(params=["", "annotations"])
def root(tmp_path, request):
    tables = tmp_path / request.param
    tables.mkdir(exist_ok=True)
    (tables / "train.csv").write_text(TRAIN)
    (tables / "val.csv").write_text(VALIDATION)
    (tables / "test.csv").write_text(TEST)
    touch(tmp_path / "train" / "yoga" / "---QUuC4vJs_000084_000094.mp4")
    touch(tmp_path / "train" / "tying knot (not on a tie)" / "abc_000001_000000_000010.webm")
    touch(tmp_path / "train" / "whole_video.mkv")
    touch(tmp_path / "train" / "yoga" / "unlisted_000000_000010.mp4")
    touch(tmp_path / "train" / "yoga" / "notes.txt")
    touch(tmp_path / "validate" / "v1_000001_000011.mp4")
    touch(tmp_path / "test" / "t1_000002_000012.mp4")
    return tmp_path


def test_kinetics_in_its_official_layout(root):
    source = Kinetics(root=str(root))
    assert source.splits == ("train", "validation", "test")
    assert source.unlabelled_splits == ("test",)
    assert source.class_names == ("tying knot (not on a tie)", "yoga")
    found = {x.name: (x.label, x.recording.content.name) for x in source("train")}
    assert found == {
        "---QUuC4vJs_000084_000094": (1, "---QUuC4vJs_000084_000094.mp4"),
        "abc_000001_000000_000010": (0, "abc_000001_000000_000010.webm"),
        "whole_video_000003_000013": (1, "whole_video.mkv"),
    }
    assert [(x.name, x.label) for x in source("validation")] == [("v1_000001_000011", 1)]
    assert [(x.name, x.label) for x in source("test")] == [("t1_000002_000012", -1)]
    assert source.left_out == {
        "clips without a video": ["missing_one_000005_000015"],
        "videos that no table lists": [str(root / "train/yoga/unlisted_000000_000010.mp4")],
    }
    assert pickle.loads(pickle.dumps(source("train"))).names == list(found)


def test_clips_of_whole_videos(root):
    times = [x.recording[2:] for x in Kinetics(root=str(root), whole_videos=True)("train")]
    assert times == [(84, 94), (0, 10), (3, 13)]
    (first, *_) = Kinetics(root=str(root))("train")
    assert first.recording[2:] == (0, float("inf"))


@pytest.mark.parametrize(
    "table, message",
    [
        ("a,b\n1,2\n", "Cannot read .*train.csv .*must have the columns label, youtube_id"),
        ("label,youtube_id,time_start,time_end\nyoga,x,soon,2\n", "Cannot read .*could not conv"),
        ("label,youtube_id,time_start,time_end\nyoga,x\n", "Cannot read .*train.csv"),
        ("label,youtube_id,time_start,time_end\n", "train.csv has no rows"),
        ("label,youtube_id,time_start,time_end\n,x,1,2\n", "train.csv must have a label"),
        ("label,youtube_id,time_start,time_end\nyoga,x,1,11\n", "no video for any clip.*x_000001"),
    ],
)
def test_wrong_tables_are_named(tmp_path, table, message):
    (tmp_path / "train.csv").write_text(table)
    with pytest.raises(UserError, match=message):
        Kinetics(root=str(tmp_path))("train")[0]


def test_a_label_that_training_lacks(root):
    tables = root if (root / "val.csv").exists() else root / "annotations"
    (tables / "val.csv").write_text(VALIDATION.replace("yoga", "juggling"))
    with pytest.raises(
        UserError, match="val.csv has the label 'juggling', which .*train.csv lacks"
    ):
        len(Kinetics(root=str(root))("validation"))


def test_without_tables(tmp_path):
    with pytest.raises(UserError, match=r"no table .*train.csv: set config.data.root"):
        _ = Kinetics(root=str(tmp_path)).splits


def test_videos_in_folders_of_classes(tmp_path):
    for name in ("cat/a.mp4", "cat/b.MKV", "dog/c.webm", "dog/notes.txt"):
        touch(tmp_path / name)
    (tmp_path / "cat" / "empty.avi").write_bytes(b"")
    source = VideoFolder(root=str(tmp_path), split_fractions=(1.0, 0.0, 0.0))
    examples = source("train")
    found = dict(zip(examples.names, (x.label for x in examples), strict=True))
    assert found == {"cat/a.mp4": 0, "cat/b.MKV": 0, "cat/empty.avi": 0, "dog/c.webm": 1}
    broken = [examples.names[index] for index in examples.broken]
    assert broken == ["cat/empty.avi"]
    assert source.left_out == {"other files": [str(tmp_path / "dog" / "notes.txt")]}
    with pytest.raises(UserError, match=r"one sub-folder of videos .*root/cat/1.mp4"):
        _ = VideoFolder(root=str(tmp_path / "cat")).class_names


def test_the_digest_of_a_file_is_that_of_its_content(tmp_path):
    path = touch(tmp_path / "a.mp4")
    of_file = digest(LabelledRecording(Recording(path, "a"), 1))
    assert of_file == digest(LabelledRecording(Recording(b"video", "b"), 1))
    assert of_file != digest(LabelledRecording(Recording(b"audio", "b"), 1))
    assert of_file != digest(LabelledRecording(Recording(b"video", "b"), 2))
    assert of_file != digest(LabelledRecording(Recording(b"video", "b", stop=1.0), 1))
    with pytest.raises(UserError, match="Cannot read .*b.mp4: No such file"):
        digest(Recording(pathlib.Path(tmp_path / "b.mp4"), "b"))
