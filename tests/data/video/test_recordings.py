"""Clips and sound from any place of a file: the same as when all of it is decoded."""

import contextlib
import dataclasses
import types
import wave

import av
import numpy as np
import pytest

from perceiver_io.data.video import decoding, recordings
from perceiver_io.data.video.clips import pieces
from perceiver_io.data.video.recordings import ClipForm, Recording
from perceiver_io.errors import UserError
from perceiver_io.tasks.video_writer import VideoWriter
from tests.helpers.videos import beep, brightness, gray, heard, make, noise, turn

SMALL = ClipForm(num_frames=4, image_size=(32, 40))


def whole(path, form=SMALL):
    """All frames and samples, decoded from the start."""
    clips = list(
        pieces(
            path,
            size=form.image_size,
            num_frames=form.num_frames,
            samples_per_frame=form.samples_per_frame,
            frame_rate=form.frame_rate,
        )
    )
    frames = np.concatenate([clip.frames[: clip.num_frames] for clip in clips])
    audio = np.concatenate(
        [clip.audio[: form.samples_per_frame * clip.num_frames] for clip in clips]
    )
    return frames, audio


def ramp(count):
    """Frames whose brightness tells their number, up to 120."""
    return gray(np.arange(count) * 2)


FILES = {
    "h264 with B-frames": dict(name="a.mp4", codec="libx264"),
    "h264 at 30 frames per second": dict(name="a.mp4", codec="libx264", rate=30),
    "h264 at 12 frames per second": dict(name="a.mkv", codec="libx264", rate=12),
    "h265": dict(name="a.mp4", codec="libx265"),
    "h265 with few key frames": dict(name="a.mov", codec="libx265", gop=40),
    "vp9": dict(name="a.webm", codec="libvpx-vp9"),
    "vp9 in mp4": dict(name="a.mp4", codec="libvpx-vp9"),
    "mpeg4 in mp4": dict(name="a.mp4", codec="mpeg4"),
    "mpeg4": dict(name="a.avi", codec="mpeg4"),
    "mpeg2 without index": dict(name="a.ts", codec="mpeg2video"),
    "mpeg2 in a program stream": dict(name="a.mpg", codec="mpeg2video"),
    "without container": dict(name="a.h264", codec="libx264", format="h264"),
    "key frames only": dict(name="a.mkv"),
}


@pytest.mark.parametrize("kind", FILES)
def test_any_clip_equals_that_of_the_decoded_whole(tmp_path, kind):
    options = dict(FILES[kind])
    path = make(tmp_path / options.pop("name"), ramp(60), **options)
    frames, _ = whole(path)
    for first in (0, 1, 17, len(frames) - 5, len(frames) - 4):
        clip = recordings.read_clip(Recording(path, "a"), SMALL, first)
        np.testing.assert_array_equal(clip.frames, frames[first : first + 4])
        assert clip.num_frames == 4


@pytest.mark.parametrize("matrix", [(0, 1, -1, 0), (-1, 0, 0, 1)])
def test_clips_after_a_seek_are_turned_too(tmp_path, matrix):
    frames = ramp(60)
    frames[:, :20] = 0
    frames[:, :, :30] += 90
    path = make(tmp_path / "a.mp4", frames, codec="libx264", gop=10)
    turn(path, matrix)
    shown, _ = whole(path)
    clip = recordings.read_clip(Recording(path, "a"), SMALL, 35)
    np.testing.assert_array_equal(clip.frames, shown[35:39])
    height, width = recordings.display_size(Recording(path, "a"))
    assert (height, width) == ((64, 48) if matrix[0] == 0 else (48, 64))


def test_a_recording_can_be_content_instead_of_a_path(tmp_path):
    path = make(tmp_path / "a.mp4", ramp(40), codec="libx264", sound={0: beep(1.6, 0, 1.6)})
    clips = [
        recordings.read_clip(Recording(content, "a"), SMALL, 20)
        for content in (path, path.read_bytes())
    ]
    np.testing.assert_array_equal(clips[0].frames, clips[1].frames)
    np.testing.assert_array_equal(clips[0].audio, clips[1].audio)


def test_only_what_is_near_the_clip_is_decoded(tmp_path, monkeypatch):
    path = make(tmp_path / "a.mp4", ramp(100), codec="libx264", gop=10)
    decoded, frames = [], decoding.decoded_frames

    def counted(*args, **kwargs):
        for frame in frames(*args, **kwargs):
            decoded.append(round(25 * frame.time))
            yield frame

    monkeypatch.setattr(decoding, "decoded_frames", counted)
    recordings.read_clip(Recording(path, "a"), SMALL, 75)
    assert min(decoded) in range(60, 76) and max(decoded) < 85


def test_frames_that_come_late_are_held_back(tmp_path):
    times = [0, 1, 2, 10, 11, 30, 31, 32, 33]
    path = make(tmp_path / "a.mkv", ramp(9), times=times)
    clip = recordings.read_clip(Recording(path, "a"), SMALL, 8)
    np.testing.assert_allclose(brightness(clip.frames), [4, 4, 6, 8], atol=1.5)
    clip = recordings.read_clip(Recording(path, "a"), SMALL, 20)
    np.testing.assert_allclose(brightness(clip.frames), 8, atol=1.5)


@pytest.mark.parametrize("name", ["a.mkv", "a.mp4"])
def test_sound_of_a_clip_is_that_of_its_place(tmp_path, name):
    def sound(rate):
        time = np.arange(4 * rate) / rate
        return 0.4 * np.sin(2 * np.pi * (200 * time + 50 * time**2))

    if name == "a.mkv":
        path = make(tmp_path / name, ramp(100), sound={0: sound(44_100)})
    else:
        path = tmp_path / name
        with VideoWriter(path, frame_rate=25) as writer:
            writer.write(ramp(100), sound(48_000)[:, None].astype(np.float32))
    _, audio = whole(path)
    for first in (1, 30, 70):
        clip = recordings.read_clip(Recording(path, "a"), SMALL, first)
        expected = audio[1920 * first : 1920 * (first + 4)]
        # Resampling may begin a fraction of a sample earlier or later.
        np.testing.assert_allclose(clip.audio, expected, atol=0.02)


def test_a_part_of_a_file_ends_where_it_ends(tmp_path):
    path = make(tmp_path / "a.mkv", ramp(50), sound={0: np.full(2 * 44_100, 0.5)})
    part = Recording(path, "a", start=0.4, stop=1.0)
    assert recordings.count_frames(part, SMALL) == 15
    clip = recordings.read_clip(part, SMALL, 12)
    assert clip.num_frames == 3
    np.testing.assert_allclose(brightness(clip.frames), [44, 46, 48, 48], atol=1.5)
    np.testing.assert_array_equal(clip.audio[3 * 1920 :], 0)
    with pytest.raises(UserError, match=r"a has no frame at 1\.00 s of the file"):
        recordings.read_clip(part, SMALL, 15)
    with pytest.raises(UserError, match=r"a has no frame at 2\.00 s of the file"):
        recordings.read_clip(Recording(path, "a"), SMALL, 50)


def test_whether_there_is_sound_at_a_place(tmp_path):
    path = make(tmp_path / "a.mkv", ramp(50), sound={0: np.full(44_100, 0.5)})
    clips = [recordings.read_clip(Recording(path, "a"), SMALL, first) for first in (0, 23, 30)]
    assert [clip.has_sound for clip in clips] == [True, True, False]
    np.testing.assert_array_equal(clips[1].audio[2 * 1920 + 100 :], 0)
    for first, expected in ((0, 50 * [True]), (30, 20 * [False])):
        timed = list(recordings.frames_with_sound(Recording(path, "a"), SMALL, first))
        assert [sound is not None for _, sound in timed] == expected, "all or none"


def test_random_clips_are_complete_and_everywhere(tmp_path):
    path = make(tmp_path / "a.mkv", ramp(12))
    rng = np.random.default_rng(0)
    clips = [recordings.random_clip(Recording(path, "a"), SMALL, rng) for _ in range(80)]
    assert {clip.num_frames for clip in clips} == {4}
    firsts = {round(float(clip.frames[0].mean()) / 2) for clip in clips}
    assert firsts == set(range(9))


def test_spaced_clips(tmp_path):
    path = make(tmp_path / "a.mkv", ramp(12))

    def firsts(count, **part):
        clips = recordings.spaced_clips(Recording(path, "a", **part), SMALL, count)
        return [round(float(clip.frames[0].mean()) / 2) for clip in clips]

    assert firsts(1) == [4]
    assert firsts(3) == [0, 4, 8]
    assert firsts(2, start=0.08, stop=0.32) == [2, 4]
    assert firsts(2, stop=0.08) == [0, 0]


def test_duration_is_measured_where_it_is_not_stated(tmp_path):
    path = make(tmp_path / "a.h264", ramp(40), codec="libx264", format="h264")
    assert recordings.count_frames(Recording(path, "a"), SMALL) == 40


def test_frames_end_where_they_end_whatever_the_sound_does(tmp_path):
    """FLV states one duration, here that of the sound, 3 s; the 30 frames take 1.2 s."""
    sound = {0: beep(3, 0, 3, rate=44_100)}
    path = make(tmp_path / "a.flv", gray(np.arange(30) * 4), codec="flv", gop=5, sound=sound)
    form = ClipForm(num_frames=10, image_size=(32, 40))
    file, rng = Recording(path, "a"), np.random.default_rng(0)
    assert recordings.count_frames(file, form) == 75
    drawn = [recordings.random_clip(file, form, rng) for _ in range(40)]
    assert {clip.num_frames for clip in drawn} == {10}
    places = {round(float(clip.frames[0].mean()) / 4) for clip in drawn}
    assert min(places) < 4 and max(places) > 15
    for count, expected in ((1, {10}), (3, {10})):
        clips = list(recordings.spaced_clips(file, form, count))
        assert {clip.num_frames for clip in clips} == expected
    starts = [float(clip.frames[0].mean()) / 4 for clip in clips]
    # FLV does not state how long the last frame is shown.
    np.testing.assert_allclose(starts, [0, 10, 19.5], atol=1)
    assert recordings.remarks_on_video(file, form) is None
    long = dataclasses.replace(form, num_frames=40)
    assert recordings.remarks_on_video(file, long) == "shorter than a clip"
    late = Recording(path, "a", 2.0, 3.0)
    for check in (
        lambda: recordings.remarks_on_video(late, form),
        lambda: recordings.random_clip(late, form, rng),
        lambda: list(recordings.spaced_clips(late, form, 2)),
    ):
        with pytest.raises(UserError, match=r"a has no frame at 2\.00 s of the file"):
            check()


def test_parts_after_the_end_of_the_file_are_no_sound(tmp_path):
    path = write_wav(tmp_path / "a.wav", np.zeros(8000), 8000)
    late = Recording(path, "a", 1.5, 2.5)
    for check in (
        lambda: recordings.remarks_on_sound(late, 1.0),
        lambda: recordings.count_samples(late, 8000),
    ):
        with pytest.raises(UserError, match=r"a has no sound at 1\.50 s of the file"):
            check()
    video = make(tmp_path / "a.mkv", ramp(50), sound={0: np.zeros(22_050)})
    assert recordings.remarks_on_video(Recording(video, "a", 1.0), SMALL) == "without sound"


def test_matroska_states_when_it_ends(tmp_path):
    path = make(tmp_path / "a.mkv", ramp(50), times=range(100, 150))
    assert recordings.count_frames(Recording(path, "a"), SMALL) == 50


def test_faster_and_slower_clips(tmp_path):
    path = make(tmp_path / "a.mkv", ramp(50), sound={0: beep(2, 0.4, 1.2, rate=44_100)})
    form = ClipForm(num_frames=5, frame_rate=5, image_size=(32, 40), samples_per_frame=1600)
    assert form.sample_rate == 8000 and form.num_samples == 8000
    clip = recordings.read_clip(Recording(path, "a"), form, 2)
    np.testing.assert_allclose(brightness(clip.frames), np.arange(10, 35, 5) * 2, atol=5)
    assert clip.audio.shape == (8000, 1)
    np.testing.assert_allclose(np.array(heard(clip.audio)) * 1920, (0, 6400), atol=40)


def write_wav(path, samples, rate):
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, rate, 0, "NONE", ""))
        file.writeframes((32767 * samples).astype("<i2").tobytes())
    return path


def test_sound_from_any_place(tmp_path):
    samples = np.random.default_rng(0).uniform(-0.9, 0.9, 20_000)
    path = write_wav(tmp_path / "a.wav", samples, 8000)
    whole_file = Recording(path, "a")
    assert recordings.count_samples(whole_file, 8000) == 20_000
    for first in (0, 1, 7000, 15_000):
        found = recordings.read_sound(whole_file, sample_rate=8000, num_samples=5000, first=first)
        np.testing.assert_allclose(found[:, 0], samples[first : first + 5000], atol=1e-3)
    part = Recording(path, "a", start=1.0, stop=1.5)
    assert recordings.count_samples(part, 8000) == 4000
    found = recordings.read_sound(part, sample_rate=8000, num_samples=4500)
    np.testing.assert_allclose(found[:4000, 0], samples[8000:12_000], atol=1e-3)
    np.testing.assert_array_equal(found[4000:], 0)
    found = recordings.read_sound(whole_file, sample_rate=8000, num_samples=500, first=30_000)
    np.testing.assert_array_equal(found, 0)


def test_sound_is_needed_where_only_sound_is_read(tmp_path):
    path = make(tmp_path / "a.mkv", ramp(5))
    with pytest.raises(UserError, match="a has no sound .*Matroska"):
        recordings.read_sound(Recording(path, "a"), sample_rate=8000, num_samples=10)
    with pytest.raises(UserError, match="Cannot read the sound b: No such file"):
        recordings.count_samples(Recording(tmp_path / "b.wav", "b"), 8000)


@pytest.mark.parametrize("first", [0, 10, 40])
def test_a_clip_of_a_truncated_file_is_complete_or_an_error(tmp_path, first):
    options = {"movflags": "faststart"}
    path = make(tmp_path / "a.mp4", noise(50), codec="mpeg4", gop=10, options=options)
    frames, _ = whole(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    try:
        clip = recordings.read_clip(Recording(path, "a"), SMALL, first)
    except UserError as error:
        assert first == 40 and "a " in str(error)
    else:
        np.testing.assert_array_equal(clip.frames, frames[first : first + 4])
        assert first < 40


def test_spaced_numbers():
    assert recordings.spaced(10, 1) == [5]
    assert recordings.spaced(10, 3) == [0, 5, 10]
    assert recordings.spaced(0, 3) == [0, 0, 0]


def test_remarks_on_readable_videos(tmp_path):
    form = ClipForm(num_frames=16, image_size=(32, 40))
    sound = {0: beep(1, 0, 1, rate=44_100)}
    remarks = {}
    for name, count, track in (("a", 25, sound), ("b", 25, None), ("c", 9, sound), ("d", 9, None)):
        path = make(tmp_path / f"{name}.mkv", ramp(count), sound=track)
        remarks[name] = recordings.remarks_on_video(Recording(path, name), form)
    both = "shorter than a clip and without sound"
    assert remarks == {"a": None, "b": "without sound", "c": "shorter than a clip", "d": both}
    path = write_wav(tmp_path / "a.wav", np.zeros(8000), 8000)
    assert recordings.remarks_on_sound(Recording(path, "a"), 1.0) is None
    assert recordings.remarks_on_sound(Recording(path, "a"), 1.01) == "shorter than a clip"


@pytest.mark.parametrize("stop, is_damaged", [(0.6, False), (2.0, True)])
def test_damage_is_found_wherever_it_is_in_the_recording(tmp_path, stop, is_damaged):
    path = make(tmp_path / "a.mp4", noise(50), codec="mpeg4", gop=5)
    data = bytearray(path.read_bytes())
    for place in range(len(data) // 2, len(data) * 3 // 4, 700):
        data[place : place + 20] = bytes(20)
    path.write_bytes(data)
    recording = Recording(path, "a", stop=stop)
    if is_damaged:
        with pytest.raises(UserError, match="a .*damaged"):
            recordings.remarks_on_video(recording, SMALL)
    else:
        assert recordings.remarks_on_video(recording, SMALL) == "without sound"


@pytest.mark.parametrize("seconds, is_read", [(0.5, True), (0.0, False)])
def test_only_before_the_start_may_sound_be_undecodable(seconds, is_read):
    def fail():
        raise av.error.InvalidDataError(0, "Invalid data")

    packet = types.SimpleNamespace(pts=10, time_base=0.01, decode=fail)
    container = types.SimpleNamespace(demux=lambda stream: iter([packet]))
    with contextlib.nullcontext() if is_read else pytest.raises(av.error.InvalidDataError):
        assert list(decoding._decoded_sound(container, None, seconds)) == []
