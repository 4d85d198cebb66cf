"""Folders of frames: which images, in which order, and missing ones."""

import pytest

from perceiver_io.data.vision.image_sequence import list_frames, list_images
from perceiver_io.errors import UserError


def folder_of(folder, *names):
    for name in names:
        (folder / name).touch()
    return folder


@pytest.mark.parametrize(
    "names, message",
    [
        (["frame_0001.png", "frame_0003.png"], r"frame_0002\.png is missing"),
        (["8.png", "9.png", "11.png"], r"from 8\.png to 11\.png, but 10\.png is missing"),
        (
            ["a2_098.jpg", "a2_099.jpg", "a2_100.jpg", "a2_103.jpg"],
            r"a2_101\.jpg and 1 more are missing",
        ),
        (["0.png", "10.png", "20.png", "40.png"], r"30\.png is missing"),
    ],
)
def test_a_gap_is_named(tmp_path, names, message):
    with pytest.raises(UserError, match=message):
        list_frames(folder_of(tmp_path, *names))


@pytest.mark.parametrize(
    "names",
    [
        ["frame_0001.png"],
        ["frame_0007.png", "frame_0008.png", "frame_0009.png", "frame_0010.png"],
        ["0.png", "10.png", "20.png"],  # every tenth
        ["1.png", "2.png", "10.png"],  # not a numbered sequence
        ["1403636579763555584.png", "1403636579813555456.png", "1403636579863555328.png"],  # times
        ["000000_10.png", "000000_11.png", "000002_10.png", "000002_11.png"],
        ["a.png", "b.png", "c7.png"],
        ["1.png", "3.jpg"],
        ["1.png", "01.png"],
    ],
)
def test_names_without_a_gap(tmp_path, names):
    folder_of(tmp_path, *names)
    assert list_frames(tmp_path) == list_images(tmp_path)
    assert len(list_frames(tmp_path)) == len(names)


def test_gaps_do_not_matter_unless_images_are_frames(tmp_path):
    folder_of(tmp_path, "1.png", "3.png")
    assert [path.name for path in list_images(tmp_path)] == ["1.png", "3.png"]
