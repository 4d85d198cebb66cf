"""Reconstruction of the user's videos."""

import numpy as np
import pytest

from perceiver_io.data.video.clips import Clip, pieces, read_frames
from perceiver_io.errors import UserError
from perceiver_io.tasks.multimodal_autoencoding.figures import spectrogram
from perceiver_io.tasks.multimodal_autoencoding.prediction import VideoAutoencoder
from perceiver_io.tasks.multimodal_autoencoding.reconstruction import Reconstruction, reconstruct
from perceiver_io.tasks.multimodal_autoencoding.record import (
    SoundRecord,
    SquaredError,
    VideoRecord,
    envelope,
)
from perceiver_io.tasks.video_writer import VideoWriter
from tests.helpers.predictions import (
    AUTOENCODER,
    picture,
    size_of,
    trained,
    untrained,
    video_file,
)

pytestmark = pytest.mark.usefixtures("for_cpu")


@pytest.mark.slow
def test_a_video_without_sound(tmp_path):
    """The model is told that there is none, and guesses it; there is no PSNR of the sound."""
    frames = np.stack([picture(8, 12, seed=i) for i in range(4)])
    with VideoWriter(tmp_path / "video.mp4", frame_rate=25) as writer:
        writer.write(frames)
    model = trained(AUTOENCODER)
    can_be_missing = dict(model.preparation, sound_can_be_missing=True)
    predictor = VideoAutoencoder(model._replace(preparation=can_be_missing))
    result = predictor.write(tmp_path, inputs=[str(tmp_path / "video.mp4")], attention=True)
    (answer,) = result.summary["videos"]
    assert list(answer["psnr"]) == ["image"] and "dB, without sound" in result.text
    image = {"image": frames / np.float32(255)}
    whole = reconstruct(model, image, audio_patches=20, chunk_size=1000)
    for found, expected in zip(predictor.predict(frames), whole, strict=True):
        np.testing.assert_array_equal(found, expected)
    silence = image | {"audio": np.zeros((160, 1), np.float32)}
    silent = reconstruct(model, silence, audio_patches=20, chunk_size=1000)
    assert np.abs(silent.image - whole.image).max() > 1e-4
    assert whole.audio.shape == (160, 1)
    # As of published weights, whose mask tokens of sound were never trained.
    for found, expected in zip(VideoAutoencoder(model).predict(frames), silent, strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.slow
def test_a_video_and_its_reconstruction(tmp_path):
    source = video_file(tmp_path / "video.mp4", 10)
    model = trained(AUTOENCODER, class_names=tuple("abcdef"))
    result = VideoAutoencoder(model).write(tmp_path, inputs=[source], chunk_size=100)
    (answer,) = result.summary["videos"]
    assert answer["num_frames"] == 10 and answer["seconds"] == 0.4
    image, audio, label = [], [], []
    clips = list(pieces(source, size=(8, 12), num_frames=4, samples_per_frame=40))
    for clip in clips:
        inputs = {"image": clip.frames / np.float32(255), "audio": clip.audio}
        whole = reconstruct(model, inputs, audio_patches=20, chunk_size=100)
        image.append(np.clip(whole.image, 0, 1)[: clip.num_frames])
        audio.append(np.clip(whole.audio[:, 0], -1, 1)[: 40 * clip.num_frames])
        label.append(whole.label)
    frames = np.concatenate([clip.frames[: clip.num_frames] for clip in clips])
    sound = np.concatenate([clip.audio[: 40 * clip.num_frames, 0] for clip in clips])
    image, audio = np.concatenate(image), np.concatenate(audio)
    expected = [
        -10 * np.log10(np.mean((found - wanted) ** 2))
        for found, wanted in ((image, frames / 255), (audio, sound))
    ]
    assert list(answer["psnr"].values()) == pytest.approx(expected, abs=1e-3)
    assert [x["name"] for x in answer["classes"]] == [
        "abcdef"[k] for k in np.argsort(-np.mean(label, axis=0))[:5]
    ]
    # The video: the original, the reconstruction, and its sound.
    written = list(pieces(answer["video"], size=(8, 24), num_frames=10))
    assert len(written) == 1 and written[0].num_frames == 10
    left, right = np.split(written[0].frames.astype(int), 2, axis=2)
    assert np.abs(left - frames).mean() < 12
    assert np.abs(right - 255 * image).mean() < 25
    loudness = np.sqrt(np.mean(written[0].audio ** 2)), np.sqrt(np.mean(audio**2))
    assert loudness[0] == pytest.approx(loudness[1], rel=0.3)
    assert size_of(answer["sheet"])[0] > 500
    assert f"{expected[0]:.2f} dB" in result.text


def test_a_model_of_another_frame_rate(tmp_path):
    source = video_file(tmp_path / "video.mp4", 10)
    model = trained(AUTOENCODER)._replace(preparation={"frame_rate": 10, "normalization": None})
    result = VideoAutoencoder(model).write(tmp_path, inputs=[source])
    (answer,) = result.summary["videos"]
    assert answer["num_frames"] == 4 and answer["seconds"] == 0.4
    assert read_frames(answer["video"]).frame_rate == 10
    (written,) = pieces(
        answer["video"], size=(8, 24), num_frames=4, frame_rate=10, samples_per_frame=4800
    )
    assert written.num_frames == 4
    per_frame = np.abs(written.audio).reshape(4, -1).max(1)
    assert (per_frame > 0.01).all(), "sound to the end"


def test_clips_of_other_lengths_and_coarser_sound(tmp_path):
    source = video_file(tmp_path / "video.mp4", 10)
    usual = list(pieces(source, size=(8, 12)))
    other = list(pieces(source, size=(8, 12), num_frames=4, samples_per_frame=40))
    assert [clip.num_frames for clip in other] == [4, 4, 2]
    assert {clip.audio.shape for clip in other} == {(160, 1)}
    frames = np.concatenate([clip.frames for clip in other])[:10]
    np.testing.assert_array_equal(frames, usual[0].frames[:10])
    # Every 48th sample of a low tone, except at the ends, where filters are less accurate.
    coarse = np.concatenate([clip.audio for clip in other])[20:380, 0]
    fine = usual[0].audio[: 10 * 1920 : 48][20:380, 0]
    assert np.abs(coarse - fine).max() < 0.05
    with pytest.raises(UserError, match="num_frames=0"):
        next(pieces(source, size=(8, 12), num_frames=0))


def test_an_autoencoder_without_whole_samples_per_frame(tmp_path):
    section = dict(AUTOENCODER, audio=dict(AUTOENCODER["audio"], num_samples=162))
    with pytest.raises(UserError, match="162 samples of sound for 4 frames"):
        VideoAutoencoder(untrained(section)).write(tmp_path, inputs=["."])


def test_a_record_keeps_evenly_spaced_frames():
    record = VideoRecord(4, frame_rate=25, samples_per_frame=5)
    rng = np.random.default_rng(0)
    sounds = []
    for _ in range(3):
        frames = rng.integers(0, 256, (4, 2, 2, 3), np.uint8)
        clip = Clip(frames, rng.uniform(-1, 1, (20, 1)).astype(np.float32), 3, has_sound=True)
        record.add(clip, Reconstruction(frames / np.float32(255), 2 * clip.audio, np.ones(1)))
        sounds.append(clip.audio[:15])
    assert record.num_frames == 9
    assert [frame.index for frame in record.frames.kept] == [0, 4, 8]
    np.testing.assert_array_equal(
        record.frames.kept[0].original, record.frames.kept[0].reconstruction
    )
    found = np.concatenate(record.sounds["original"].envelopes)
    assert len(found) == 9 * 4
    assert found[:, 0].min() == np.min(sounds) and found[:, 1].max() == np.max(sounds)
    sound = np.concatenate(sounds)
    error = np.mean((np.clip(2 * sound, -1, 1) - sound) ** 2)
    assert record.psnr()["audio"] == pytest.approx(-10 * np.log10(error), abs=1e-4)


def test_an_envelope_follows_the_sound():
    sound = np.array([[1, 2, 3, 4], [-1, 5, 0, 7]])
    found = envelope(np.repeat(sound, 2, axis=1) * np.tile([1, -1], 4))
    np.testing.assert_array_equal(
        found, [[-1, 1], [-2, 2], [-3, 3], [-4, 4], [-1, 1], [-5, 5], [0, 0], [-7, 7]]
    )
    assert envelope(sound[:, :1]).shape == (2, 2)


def test_a_last_clip_shorter_than_a_window_of_the_spectrogram():
    """At 60 frames per second, a frame has 1/60 s of sound, a window 1/50 s."""
    record = SoundRecord(60 * 100)
    for count in (4, 1):
        record.add(np.ones((count, 100)))
    assert np.stack(record.spectra.kept).shape[1] == 61
    tone = np.sin(2 * np.pi * 50 * np.arange(100) / 6000)
    (short,) = spectrogram(tone, 6000)
    np.testing.assert_allclose(short, spectrogram(np.pad(tone, (0, 20)), 6000)[0])


def test_psnr_of_equal_arrays_is_infinite():
    error = SquaredError()
    error.add(np.ones(3), np.ones(3))
    assert error.psnr() == np.inf
