"""Reading videos, all of them generated here so that each frame and sample is known."""

import fractions
import pathlib
import sys
import wave

import av
import numpy as np
import pytest
from PIL import Image

from perceiver_io.data.video import clips as video
from perceiver_io.data.video import decoding
from perceiver_io.errors import UserError
from perceiver_io.tasks.video_writer import VideoWriter
from tests.helpers.videos import beep, brightness, gray, heard, make, noise, read, turn

FILES = pathlib.Path(__file__).parents[2] / "files"


def test_clips_of_16_frames_with_the_last_one_padded(tmp_path):
    path = make(tmp_path / "a.mkv", gray(range(0, 200, 5)), sound={0: np.full(80_000, 0.5)})
    clips = list(video.pieces(path, size=(32, 40)))
    assert [clip.num_frames for clip in clips] == [16, 16, 8]
    assert video.count_pieces(path) == 3
    for clip in clips:
        assert clip.frames.shape == (16, 32, 40, 3) and clip.frames.dtype == np.uint8
        assert clip.audio.shape == (16 * 1920, 1) and clip.audio.dtype == np.float32
    np.testing.assert_allclose(brightness(clips[1].frames), range(80, 160, 5), atol=1.5)
    np.testing.assert_allclose(brightness(clips[2].frames[8:]), 195, atol=1.5)
    np.testing.assert_allclose(clips[2].audio[100 : 8 * 1920 - 100], 0.5, atol=0.01)
    np.testing.assert_array_equal(clips[2].audio[8 * 1920 :], 0)


@pytest.mark.parametrize(
    "rate, values",
    [
        (50, range(0, 100, 2)),
        (5, np.repeat(range(0, 100, 10), 5)),
        (10, np.repeat(range(0, 100, 5), [3, 2] * 10)),
    ],
)
def test_frames_come_25_times_per_second(tmp_path, rate, values):
    count = 2 * rate
    path = make(tmp_path / "a.mkv", gray(np.arange(count) * (100 // count)), rate=rate)
    np.testing.assert_allclose(brightness(read(path)[0]), values, atol=1.5)


def test_frames_are_placed_by_their_timestamps(tmp_path):
    times = [0, 1, 2, 10, 11, 20]
    path = make(tmp_path / "a.mkv", gray([0, 40, 80, 120, 160, 200]), times=times)
    shown = brightness(read(path)[0])
    expected = [0, 40, *[80] * 8, 120, *[160] * 9, 200]
    np.testing.assert_allclose(shown, expected, atol=1.5)


def test_time_begins_with_the_first_frame(tmp_path):
    # The second frame is 16 ms after the first, less than half of 40 ms.
    path = make(tmp_path / "a.mkv", gray([0, 40, 80, 99]), rate=1000, times=[10, 26, 50, 90])
    np.testing.assert_allclose(brightness(read(path)[0]), [40, 80], atol=1.5)


@pytest.mark.parametrize("shape, size", [((48, 64), (32, 32)), ((90, 40), (30, 40))])
def test_frames_cover_the_size_and_are_cropped_in_the_centre(tmp_path, shape, size):
    height, width = shape
    y, x = np.mgrid[:height, :width]
    frame = np.stack([2 * y, 2 * x, 0 * x], axis=-1).astype(np.uint8)
    shown = read(make(tmp_path / "a.mkv", [frame]), size)[0][0].astype(float)
    scale = min(height / size[0], width / size[1])
    centre = [2 * (side - 1) / 2 for side in shape]
    rows = centre[0] + 2 * scale * (np.arange(size[0]) - (size[0] - 1) / 2)
    columns = centre[1] + 2 * scale * (np.arange(size[1]) - (size[1] - 1) / 2)
    np.testing.assert_allclose(shown[2:-2, :, 0].mean(axis=1), rows[2:-2], atol=3)
    np.testing.assert_allclose(shown[:, 2:-2, 1].mean(axis=0), columns[2:-2], atol=3)


# Upright, upside down, lying on either side; and the same mirrored, as from front cameras.
MATRICES = [(1, 0, 0, 1), (-1, 0, 0, -1), (0, 1, -1, 0), (0, -1, 1, 0)]
MATRICES += [(-1, 0, 0, 1), (1, 0, 0, -1), (0, 1, 1, 0), (0, -1, -1, 0)]


@pytest.mark.parametrize("matrix", MATRICES)
def test_videos_are_rotated_and_mirrored_by_their_display_matrix(tmp_path, matrix):
    a, b, c, d = matrix  # (x, y) of the file is shown at (a x + c y, b x + d y)
    frame, expected = gray([0])[0], {}
    for (x, y), value in {(-1, -1): 0, (1, -1): 80, (-1, 1): 160, (1, 1): 240}.items():
        rows = slice(0, 24) if y < 0 else slice(24, 48)
        frame[rows, slice(0, 32) if x < 0 else slice(32, 64)] = value
        expected[a * x + c * y, b * x + d * y] = value
    path = make(tmp_path / "a.mp4", [frame] * 5, codec="mpeg4")
    turn(path, matrix)
    as_is = next(video.read_frames(path).frames)
    assert as_is.shape == ((48, 64, 3) if a else (64, 48, 3))
    for shown in (as_is, read(path, (32, 32))[0][0]):
        height, width, _ = shown.shape
        for (x, y), value in expected.items():
            found = shown[(2 + y) * height // 4, (2 + x) * width // 4]
            np.testing.assert_allclose(found, value, atol=8)


def test_pixels_that_are_not_square_keep_their_aspect_ratio(tmp_path):
    path = tmp_path / "a.mp4"
    frame = gray([0], 64, 64)[0]
    frame[:, 16:48] = 255
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.height = stream.width = 64
        stream.pix_fmt = "yuv420p"
        stream.codec_context.sample_aspect_ratio = fractions.Fraction(2)
        container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    # Displayed 128 pixels wide, with a white centre.
    assert read(path, (64, 64))[0][:, :, 2:-2].min() > 240


@pytest.mark.parametrize("layout", ["mono", "stereo", "5.1"])
def test_sound_is_in_sync_and_as_loud_as_each_channel(tmp_path, layout):
    frames = gray([0] * 25 + [255] * 25)
    sound = {0: beep(2, 1, 2, rate=44_100, loudness=0.9)}
    shown, audio = read(make(tmp_path / "a.mkv", frames, sound=sound, layout=layout))
    assert np.argmax(brightness(shown) > 128) == 25
    np.testing.assert_allclose(heard(audio), (25, 50), atol=0.03)
    assert np.abs(audio[26 * 1920 : 49 * 1920]).max() == pytest.approx(0.9, abs=0.01)


@pytest.mark.parametrize("shift, first_frame", [(0.2, 0), (0, 5), (0, 50)])
def test_sound_keeps_its_offset_from_the_first_frame(tmp_path, shift, first_frame):
    times = [first_frame + index for index in range(100)]
    sound = {shift: beep(3, 2.4, 2.8, rate=44_100)}
    path = make(tmp_path / "a.mkv", gray([99] * 100), times=times, sound=sound)
    _, audio = read(path)
    begin = 60 + 25 * shift - first_frame
    np.testing.assert_allclose(heard(audio), (begin, begin + 10), atol=0.05)  # Matroska: 1 ms


def test_gaps_in_the_sound_are_silence(tmp_path):
    tone = beep(0.4, 0, 0.4, rate=44_100)
    _, audio = read(make(tmp_path / "a.mkv", gray([99] * 50), sound={0.2: tone, 1.2: tone}))
    loud = np.abs(audio.reshape(50, 1920)).max(axis=1) > 0.1
    np.testing.assert_array_equal(np.flatnonzero(loud), [*range(5, 15), *range(30, 40)])


def test_missing_sound_is_no_silence(tmp_path):
    """No sound, a track of silence, and one that ends in the first clip: zeros in all of them."""
    for seconds, expected in ((None, [False] * 2), (1.2, [True] * 2), (0.6, [True, False])):
        sound = None if seconds is None else {0: beep(seconds, 0, 0, rate=44_100)}
        path = make(tmp_path / f"{seconds}.mkv", gray([99] * 30), sound=sound)
        clips = list(video.pieces(path, size=(32, 40)))
        assert [clip.has_sound for clip in clips] == expected
        assert not any(clip.audio.any() for clip in clips)
        assert {clip.audio.shape for clip in clips} == {(16 * 1920, 1)}


def test_the_last_part_of_a_sound_is_as_long_as_it_is(tmp_path):
    path = make(tmp_path / "a.mkv", gray([99] * 5), sound={0: np.full(4410 + 441, 0.5)})
    with decoding.opened_sound(path, "a") as container:
        options = dict(sample_rate=44_100, size=4410, start=0.0)
        blocks = list(decoding.sound_blocks(container, **options))
    assert [len(block) for block in blocks] == [4410, 441]
    np.testing.assert_allclose(np.concatenate(blocks), 0.5, atol=1e-3)


def test_one_clip_at_a_time_is_read(tmp_path, monkeypatch):
    path = make(tmp_path / "a.mkv", gray([99] * 100))
    decoded, convert = [], decoding.pixels
    monkeypatch.setattr(decoding, "pixels", lambda *args: decoded.append(1) or convert(*args))
    clips = video.pieces(path, size=(32, 32))
    next(clips)
    assert len(decoded) == 16
    next(clips)
    assert len(decoded) == 32


def test_a_stream_without_container_states_no_length(tmp_path):
    frames = gray(range(0, 200, 10))
    path = make(tmp_path / "a.h264", frames, codec="libx264", format="h264")
    assert video.count_pieces(path) is None
    assert video.read_frames(path).length is None
    np.testing.assert_allclose(brightness(read(path)[0]), range(0, 200, 10), atol=2)


def test_frames_come_with_their_times(tmp_path):
    path = make(tmp_path / "a.mkv", gray([0, 40, 80]), times=[5, 6, 30])
    times = [frame.seconds for frame in video.timed_frames(path)]
    np.testing.assert_allclose(list(map(float, times)), [0, 0.04, 1], atol=1e-3)  # Matroska: 1 ms


@pytest.mark.parametrize("name", ["a.mkv", "a.avi"])
def test_read_frames_of_a_video_unchanged(tmp_path, name):
    rate = fractions.Fraction(30_000, 1001)
    frames = gray(range(0, 200, 10))
    sequence = video.read_frames(make(tmp_path / name, frames, rate=rate))
    assert sequence.length == 20
    assert float(sequence.frame_rate) == pytest.approx(29.97, abs=0.01)
    shown = np.stack(list(sequence.frames))
    assert shown.shape == (20, 48, 64, 3) and shown.dtype == np.uint8
    np.testing.assert_allclose(brightness(shown), range(0, 200, 10), atol=1.5)


def test_read_frames_of_a_folder_in_natural_order(tmp_path):
    for number in (1, 2, 10):
        Image.fromarray(gray([number])[0]).save(tmp_path / f"frame{number}.png")
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / ".frame3.png").write_text("hidden")
    sequence = video.read_frames(tmp_path)
    assert (sequence.length, sequence.frame_rate) == (3, None)
    np.testing.assert_array_equal(np.stack(list(sequence.frames)), gray([1, 2, 10]))


def test_a_folder_of_differing_or_damaged_images(tmp_path):
    Image.fromarray(gray([1])[0]).save(tmp_path / "1.png")
    Image.fromarray(gray([1], 20, 30)[0]).save(tmp_path / "2.png")
    with pytest.raises(UserError, match="2.png has 30x20 pixels and the images before it 64x48"):
        list(video.read_frames(tmp_path).frames)
    (tmp_path / "2.png").write_bytes((tmp_path / "1.png").read_bytes()[:60])
    with pytest.raises(UserError, match="Cannot decode image .*2.png"):
        list(video.read_frames(tmp_path).frames)


def consume(path):
    return list(video.pieces(path, size=(8, 8)))


def consume_frames(path):
    return list(video.read_frames(path).frames)


@pytest.mark.parametrize("use", [consume, consume_frames, video.count_pieces])
def test_a_file_that_is_not_a_video_is_named(tmp_path, use):
    with pytest.raises(UserError, match="Cannot read the video .*a.mp4: No such file"):
        use(tmp_path / "a.mp4")
    (tmp_path / "a.mp4").write_bytes(b"nothing of the kind" * 50)
    with pytest.raises(UserError, match="FFmpeg cannot read .*a.mp4"):
        use(tmp_path / "a.mp4")
    (tmp_path / "a.txt").write_text("hello\n" * 100)
    with pytest.raises(UserError, match="a.txt has no video stream"):
        use(tmp_path / "a.txt")
    with wave.open(str(tmp_path / "a.wav"), "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", ""))
        sound.writeframes(bytes(8000))
    with pytest.raises(UserError, match="a.wav has no video stream .*WAV"):
        use(tmp_path / "a.wav")


def test_cover_art_is_not_a_video():
    with pytest.raises(UserError, match="cover_art.mp3 has no video stream"):
        video.read_frames(FILES / "cover_art.mp3")


def test_a_colon_in_a_relative_path_is_not_a_protocol(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make(tmp_path / "take:1.mkv", gray([99]))
    assert len(list(video.read_frames("take:1.mkv").frames)) == 1
    (tmp_path / "scene:2").mkdir()
    with VideoWriter("scene:2/a.mp4", frame_rate=25) as writer:
        writer.write(gray([99]))
    assert (tmp_path / "scene:2" / "a.mp4").exists()


def test_a_folder_is_not_a_video_and_needs_images(tmp_path):
    with pytest.raises(UserError, match="Is a directory"):
        consume(tmp_path)
    with pytest.raises(UserError, match="folder .* has no images"):
        video.read_frames(tmp_path)


@pytest.mark.parametrize("use", [consume, consume_frames])
@pytest.mark.parametrize("name", ["a.mkv", "a.mp4", "a.avi"])
def test_a_truncated_video_is_named(tmp_path, use, name):
    options = {"movflags": "faststart"} if name == "a.mp4" else {}
    path = make(tmp_path / name, noise(50), codec="mpeg4", options=options)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    with pytest.raises(
        UserError, match=r"(ends after 1\.\d s of 2\.0 s|is damaged at [01]\.\d s); copy it"
    ):
        use(path)


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_a_damaged_video_is_named(tmp_path, codec):
    path = make(tmp_path / "a.mp4", noise(50), codec=codec)
    data = bytearray(path.read_bytes())
    for place in range(len(data) // 3, len(data) * 2 // 3, 700):
        data[place : place + 20] = bytes(20)
    path.write_bytes(data)
    with pytest.raises(UserError, match="a.mp4.*damaged"):
        consume(path)


def test_frames_that_change_their_size_are_named(tmp_path):
    parts = [make(tmp_path / f"{size}.ts", noise(9, size, 64), codec="mpeg4") for size in (32, 48)]
    path = tmp_path / "a.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    with pytest.raises(UserError, match="a.ts: frames change from 64x32 to 64x48 pixels"):
        consume(path)


def test_a_size_of_zero_is_refused(tmp_path):
    path = make(tmp_path / "a.mkv", gray([99]))
    with pytest.raises(UserError, match=r"size=\(0, 8\) must be"):
        next(video.pieces(path, size=(0, 8)))


def test_without_pyav_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(UserError, match="pip install av"):
        consume(tmp_path / "a.mp4")
