"""Writing videos and reading them back."""

import fractions

import av
import numpy as np
import pytest

from perceiver_io.data.video import clips as video
from perceiver_io.errors import UserError
from perceiver_io.tasks.video_writer import VideoWriter
from tests.helpers.videos import beep, brightness, gray, heard, noise, read


def test_written_sound_and_frames_are_in_sync(tmp_path):
    frames = gray([0] * 25 + [255] * 10 + [0] * 15, 47, 65)
    sound = beep(2, 1, 1.4)[:, None]
    with VideoWriter(tmp_path / "a.mp4", frame_rate=25) as writer:
        for start in range(0, 50, 16):
            writer.write(frames[start : start + 16], sound[1920 * start : 1920 * (start + 16)])
        assert not (tmp_path / "a.mp4").exists()
    shown, audio = read(tmp_path / "a.mp4", (48, 66))
    np.testing.assert_array_equal(np.flatnonzero(brightness(shown) > 128), range(25, 35))
    np.testing.assert_allclose(heard(audio), (25, 35), atol=0.1)
    assert np.sqrt(np.mean((audio - sound[:, 0]) ** 2)) < 0.01
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


def test_colours_round_trip_and_odd_sides_become_even(tmp_path):
    colors = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (200, 120, 40), (0, 0, 0), (255, 255, 255)]
    frames = np.stack([np.full((47, 65, 3), color, np.uint8) for color in colors])
    with VideoWriter(tmp_path / "a.mp4", frame_rate=30_000 / 1001) as writer:
        writer.write(frames)
    sequence = video.read_frames(tmp_path / "a.mp4")
    assert (sequence.length, sequence.frame_rate) == (6, fractions.Fraction(30_000, 1001))
    shown = np.stack(list(sequence.frames))
    assert shown.shape == (6, 48, 66, 3)
    np.testing.assert_allclose(shown[:, 24, 33], colors, atol=4)
    np.testing.assert_allclose(shown[:, -1, -1], colors, atol=4)
    with av.open(str(tmp_path / "a.mp4")) as container:
        codec = container.streams.video[0].codec_context
        assert (codec.name, codec.pix_fmt, codec.colorspace) == ("h264", "yuv420p", 1)


def test_an_exception_leaves_the_old_video_and_nothing_else(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"old")
    with pytest.raises(RuntimeError), VideoWriter(tmp_path / "a.mp4", frame_rate=25) as writer:
        writer.write(noise(60))
        raise RuntimeError
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]
    assert (tmp_path / "a.mp4").read_bytes() == b"old"


@pytest.mark.parametrize(
    "calls, message",
    [
        ([(gray([0]).astype(float), None)], "are float64"),
        ([(gray([0])[0], None)], r"are uint8 \[48, 64, 3\]"),
        ([(gray([0]), None), (gray([0], 48, 32), None)], r"from \[48, 64, 3\] to \[48, 32, 3\]"),
        ([(gray([0]), np.zeros(1920, np.float32))], r"Sound .* is float32 \[1920\]"),
        ([(gray([0]), np.zeros((1920, 1)))], r"Sound .* is float64"),
        ([(gray([0]), np.full((1920, 1), np.nan, np.float32))], "not finite"),
        ([(gray([0] * 3), np.zeros((1919, 1), np.float32))], "need 5760 samples .* are 1919"),
        ([(gray([0]), None), (gray([0]), np.zeros((1920, 1), np.float32))], "began without sound"),
        ([(gray([0]), np.zeros((1920, 1), np.float32)), (gray([0]), None)], "began with sound"),
        ([], "No frame was written"),
        ([(gray([]), None)], "No frame was written"),
    ],
)
def test_invalid_input(tmp_path, calls, message):
    with (
        pytest.raises(UserError, match=message),
        VideoWriter(tmp_path / "a.mp4", frame_rate=25) as writer,
    ):
        for frames, audio in calls:
            writer.write(frames, audio)
    assert not list(tmp_path.iterdir())


def test_unwritable_folder(tmp_path):
    with pytest.raises(UserError, match="must end in .mp4"):
        VideoWriter(tmp_path / "a.avi", frame_rate=25)
    with pytest.raises(UserError, match="frame_rate=0 must be above 0"):
        VideoWriter(tmp_path / "a.mp4", frame_rate=0)
    writer = VideoWriter(tmp_path / "nowhere" / "a.mp4", frame_rate=25)
    with pytest.raises(UserError, match="Cannot write the video .*No such file"), writer:
        pass
