"""Stretches of tagged recordings: where they are, what they hold, and their augmentation."""

import dataclasses
import wave

import numpy as np
import pytest

from perceiver_io.data.sound.features import Waveform
from perceiver_io.data.sound.tagged import (
    Excerpt,
    Frames,
    Samples,
    SpacedStretches,
    Tagged,
    TaggedInput,
    TaggedPreparation,
)
from perceiver_io.data.video import decoding
from perceiver_io.data.video.recordings import Recording
from perceiver_io.errors import UserError
from tests.helpers import videos

RATE = 100
WAVEFORM = Waveform(sample_rate=RATE, num_samples=20)
RAMP = np.arange(1, 101, dtype=np.float32) / 100


def tagged(samples, tags=(3,), rate=RATE):
    return Tagged(Samples(np.asarray(samples, np.float32), rate), tags, "a sound")


def drawn(preparation, raw, count=200):
    return [preparation.training_example(raw, np.random.default_rng(i)) for i in range(count)]


def test_training_stretches_are_from_random_places():
    examples = drawn(TaggedPreparation(sound=WAVEFORM), tagged(RAMP), 500)
    starts = {round(100 * float(example["sound"][0, 0])) - 1 for example in examples}
    assert starts == set(range(81))
    for example in examples[:5]:
        start = round(100 * float(example["sound"][0, 0])) - 1
        np.testing.assert_array_equal(example["sound"][:, 0], RAMP[start : start + 20])


def test_short_sounds_are_put_at_random_places_in_silence():
    examples = drawn(TaggedPreparation(sound=WAVEFORM), tagged(RAMP[:15]))
    befores = set()
    for example in examples:
        heard = np.flatnonzero(example["sound"][:, 0])
        np.testing.assert_array_equal(example["sound"][heard, 0], RAMP[:15])
        befores.add(heard[0])
    assert befores == set(range(6))


def test_sounds_are_played_faster_and_more_slowly():
    """The frequency of a tone of 10 Hz, and the duration of a short sound."""
    form = Waveform(sample_rate=RATE, num_samples=200)
    preparation = TaggedPreparation(sound=form, max_speed=1.5)
    tone = np.sin(2 * np.pi * 10 * np.arange(1000) / RATE)
    examples = drawn(preparation, tagged(tone))
    heard = [np.abs(np.fft.rfft(x["sound"][:, 0])).argmax() / 2 for x in examples]
    assert 6.5 <= min(heard) < 7.2 and 14 < max(heard) <= 15
    assert np.median(heard) == pytest.approx(10, abs=0.7)


def test_evaluation_stretches_are_at_equal_distances():
    with pytest.raises(UserError, match="10 samples, which do not divide into the 3 frames"):
        TaggedInput(
            sound=Waveform(sample_rate=100, num_samples=10),
            video=Frames(num_frames=3, frame_rate=30),
        )
    preparation, rng = TaggedPreparation(sound=WAVEFORM), np.random.default_rng(0)
    middle = preparation.evaluation_example(tagged(RAMP), rng)
    np.testing.assert_array_equal(middle["sound"][:, 0], RAMP[40:60])
    several = SpacedStretches(preparation, 5)
    example = several.evaluation_example(tagged(RAMP, tags=(4, 2)), rng)
    np.testing.assert_array_equal(example["sound"][:, 0, 0] * 100, [1, 21, 41, 61, 81])
    assert example["tags"][:3].tolist() == [4, 2, -1]
    spec = several.example_spec()
    assert {name: (x.shape, x.dtype) for name, x in example.items()} == spec
    short = several.evaluation_example(tagged(RAMP[:15]), rng)["sound"][..., 0]
    np.testing.assert_array_equal(short, np.tile(np.pad(RAMP[:15], (0, 5)), (5, 1)))


def test_silence_is_a_sound(tmp_path):
    rng = np.random.default_rng(0)
    example = TaggedPreparation(sound=WAVEFORM).evaluation_example(tagged(np.zeros(50)), rng)
    assert example["sound_present"]
    for name, sound in (("without", None), ("silent", {0: np.zeros(44_100)})):
        path = videos.make(tmp_path / f"{name}.mkv", videos.gray([99] * 25), sound=sound)
        raw = Tagged(Recording(path, name), (1,), name)
        for example in (BOTH.training_example(raw, rng), BOTH.evaluation_example(raw, rng)):
            assert example["sound_present"] == (name == "silent") and example["video_present"]
            assert not example["sound"].any()


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """25 frames, each brighter than the one before; a beep from 0.4 to 0.6 s."""
    path = tmp_path_factory.mktemp("videos") / "video.mkv"
    frames = videos.gray(range(0, 250, 10))
    return videos.make(path, frames, sound={0: videos.beep(1, 0.4, 0.6, rate=44_100)})


BOTH = TaggedPreparation(
    sound=Waveform(sample_rate=16_000, num_samples=6400),
    video=Frames(num_frames=10, image_size=(24, 32), flip=False),
)


def test_sound_and_video_are_of_the_same_time(video):
    raw = Tagged(Recording(video, "video"), (1,), "video")
    example = SpacedStretches(BOTH, 2).evaluation_example(raw, np.random.default_rng(0))
    assert example["video"].shape == (2, 10, 24, 32, 3) and example["video_present"].all()
    brightness = example["video"].mean((2, 3, 4))
    np.testing.assert_allclose(brightness[:, 0], [0, 150], atol=3)
    heard = [np.flatnonzero(np.abs(sound[:, 0]) > 0.05) for sound in example["sound"]]
    assert heard[0].size == 0 and heard[1].size == 0, "the beep is between them"
    (middle,) = BOTH.stretches(raw, 1)
    heard = np.flatnonzero(np.abs(middle["sound"][:, 0]) > 0.05)
    first = middle["video"][0].mean() / 10 / 25  # seconds
    assert heard[0] / 16_000 + first == pytest.approx(0.4, abs=0.02)


def test_a_model_of_both_hears_sounds_without_video(tmp_path):
    path, rng = tmp_path / "a.wav", np.random.default_rng(0)
    tone = videos.beep(1, 0, 1, rate=16_000)
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes((32767 * tone).astype("<i2").tobytes())
    on_disk = Tagged(Recording(path, "a"), (1,), "a")
    for raw in (on_disk, tagged(tone, rate=16_000)):
        example = BOTH.evaluation_example(raw, rng)
        np.testing.assert_allclose(example["sound"][:, 0], tone[4800:11_200], atol=1e-3)
        for found in (example, BOTH.training_example(raw, rng)):
            assert found["sound_present"] and not found["video_present"]
            spec = BOTH.example_spec()
            assert {name: (x.shape, x.dtype) for name, x in found.items()} == spec
    assert BOTH.check(on_disk, rng) == "without video"
    assert BOTH.check(tagged(tone, rate=16_000), rng) is None
    only_video = dataclasses.replace(BOTH, sound=None)
    for raw in (on_disk, tagged(tone, rate=16_000)):
        for call in (only_video.training_example, only_video.evaluation_example, only_video.check):
            with pytest.raises(UserError, match="a.* has no video, but the model takes nothing"):
                call(raw, rng)


def test_a_model_of_video_alone_decodes_no_sound(video, monkeypatch):
    monkeypatch.setattr(decoding, "sound_blocks", lambda *_, **__: pytest.fail("decodes sound"))
    raw, rng = Tagged(Recording(video, "video"), (1,), "video"), np.random.default_rng(0)
    alone = dataclasses.replace(BOTH, sound=None)
    for example in (alone.training_example(raw, rng), alone.evaluation_example(raw, rng)):
        assert example["video"].any() and "sound" not in example


def test_the_sound_of_a_video_alone(video):
    alone = dataclasses.replace(BOTH, video=None)
    raw = Tagged(Recording(video, "video", 0.2, 1.0), (1,), "video")
    (example,) = alone.stretches(raw, 1)
    assert set(example) == {"sound", "sound_present", "tags"}
    heard = np.flatnonzero(np.abs(example["sound"][:, 0]) > 0.05)
    # From 0.4 s of the file, the middle of its part from 0.2 s on.
    assert heard[0] / 16_000 == pytest.approx(0, abs=0.01)
    assert heard[-1] / 16_000 == pytest.approx(0.2, abs=0.01)


def test_frames_are_cut_out_and_mirrored_at_random():
    form = Frames(num_frames=2, image_size=(4, 6), margin=1.5)
    assert form.enlarged == (6, 9)
    wide = np.broadcast_to(np.arange(54, dtype=np.uint8).reshape(6, 9, 1), (2, 6, 9, 3))
    corners = set()
    for seed in range(300):
        part = form.augmented(wide, np.random.default_rng(seed))
        assert part.shape == form.shape
        step = int(part[0, 0, 1, 0]) - int(part[0, 0, 0, 0])
        corners.add((int(part[0, 0, :, 0].min()), step))
    assert {corner % 9 for corner, _ in corners} == set(range(4))
    assert {corner // 9 for corner, _ in corners} == set(range(3))
    assert {step for _, step in corners} == {-1, 1}


def test_some_examples_lack_a_modality(video, monkeypatch):
    excerpt = Excerpt(np.ones(6400, np.float32), np.zeros((10, 24, 32, 3), np.uint8))
    monkeypatch.setattr(TaggedPreparation, "_random", lambda self, raw, rng: excerpt)
    raw = Tagged(Recording(video, "video"), (1,), "video")
    dropping = dataclasses.replace(BOTH, modality_dropout=0.5)
    present = np.array(
        [(x["sound_present"], x["video_present"]) for x in drawn(dropping, raw, 400)]
    )
    assert present.any(1).all(), "never both"
    np.testing.assert_allclose(1 - present.mean(0), 0.25, atol=0.06)
    assert all(x["sound_present"] for x in drawn(BOTH, raw, 5))


def test_the_only_modality_of_an_example_is_kept(video, monkeypatch):
    silent = Excerpt(None, np.zeros((10, 24, 32, 3), np.uint8))
    monkeypatch.setattr(TaggedPreparation, "_random", lambda self, raw, rng: silent)
    dropping = dataclasses.replace(BOTH, modality_dropout=0.9)
    examples = drawn(dropping, Tagged(Recording(video, "video"), (1,), "video"), 20)
    assert all(x["video_present"] and not x["sound_present"] for x in examples)


def test_weights_of_mixup():
    preparation = TaggedPreparation(sound=WAVEFORM, mixup_alpha=0.5)
    weights = [example["mixup_weight"] for example in drawn(preparation, tagged(RAMP), 400)]
    assert np.mean(weights) == pytest.approx(0.5, abs=0.06)
    assert np.var(weights) == pytest.approx(1 / 8, abs=0.02), "of Beta(1/2, 1/2)"
    example = preparation.evaluation_example(tagged(RAMP), np.random.default_rng(0))
    assert example["mixup_weight"] == 1
    assert set(example) == set(preparation.example_spec())


def test_prepared_as_for_training_from_what_is_stored():
    stored = BOTH.for_prediction()
    assert stored["sound"] == dict(name="waveform", sample_rate=16_000, num_samples=6400)
    assert TaggedInput(sound=BOTH.sound, video=Frames(**stored["video"])).seconds == 0.4


def test_wrong_settings():
    with pytest.raises(UserError, match="sound and config.data.video are both None"):
        TaggedPreparation()
    with pytest.raises(UserError, match="6400 samples at 16000 Hz, 0.4 s, but .* 8 frames .*0.32"):
        dataclasses.replace(BOTH, video=Frames(num_frames=8))
    with pytest.raises(UserError, match="10 samples, which do not divide into the 3 frames"):
        TaggedInput(
            sound=Waveform(sample_rate=100, num_samples=10),
            video=Frames(num_frames=3, frame_rate=30),
        )
    preparation, rng = TaggedPreparation(sound=WAVEFORM), np.random.default_rng(0)
    with pytest.raises(UserError, match="sample_rate is 100: set it to 44100"):
        preparation.training_example(tagged(RAMP, rate=44_100), rng)
    with pytest.raises(UserError, match="has 33 tags, but there is room for 32"):
        preparation.evaluation_example(tagged(RAMP, tags=tuple(range(33))), rng)
