"""Tags over time of files: sounds, videos, and videos without sound."""

import csv
import json

import jax
import numpy as np
import pytest
import scipy.special

from perceiver_io.data.sound.features import MelSpectrogram, Waveform
from perceiver_io.data.sound.tagged import Frames, TaggedPreparation
from perceiver_io.errors import UserError
from perceiver_io.tasks.predictor import Trained
from perceiver_io.tasks.sound_tagging.figures import tags_over_time
from perceiver_io.tasks.sound_tagging.prediction import Overview, SoundTagger, Stretch
from perceiver_io.tasks.sound_tagging.task import model_inputs
from tests.helpers import videos
from tests.helpers.architectures import initialised
from tests.helpers.audioset import write_sound
from tests.helpers.sections import core

pytestmark = pytest.mark.usefixtures("for_cpu")

NAMES = ("quiet", "loud", "neither")
CORE = dict(core(num_layers=1), name="perceiver_io_clip_tagger", num_classes=3, query_dim=8)
VIDEO = dict(shape=(5, 8, 8), patch_size=(5, 4, 4), num_bands=2)
FRAMES = Frames(num_frames=5, image_size=(8, 8))
MEL = MelSpectrogram(sample_rate=8000, num_samples=1600, hop=400, fft_size=512, mel_bands=8)
SPECTROGRAM = dict(name="spectrogram", shape=(4, 8), patch_size=(2, 4), num_bands=2)


def tagger(section, sound=None, video=None):
    section = CORE | section
    preparation = TaggedPreparation(sound=sound, video=video)
    batch = {name: np.zeros((1, *shape), dtype) for name, (shape, dtype) in
             preparation.example_spec().items() if name != "tags"}  # fmt: skip
    trained = initialised(section, model_inputs(batch)["inputs"])
    stored = json.loads(json.dumps(preparation.for_prediction()))
    return SoundTagger(Trained(*trained, section, NAMES, stored | {"normalization": None}))


@pytest.fixture(scope="module")
def of_sound():
    return tagger(dict(sound=SPECTROGRAM), MEL)


@pytest.fixture(scope="module")
def of_both():
    waveform = Waveform(sample_rate=8000, num_samples=1600)
    section = dict(name="waveform", num_samples=1600, samples_per_patch=100, num_bands=2)
    return tagger(dict(sound=section, video=VIDEO), waveform, FRAMES)


def tagger_rows(path):
    with path.open(newline="") as file:
        return list(csv.reader(file))


def test_weights_are_recognised_by_inputs_and_outputs(of_both):
    inputs = of_both.trained.model.input_spec["inputs"]
    logits = jax.ShapeDtypeStruct((1, 3), np.float32)
    assert SoundTagger.takes(inputs, logits)
    assert not SoundTagger.takes(inputs, {"sound": logits})
    assert not SoundTagger.takes(inputs["sound"], logits)


def test_stretches_follow_each_other(of_sound, tmp_path):
    write_sound(tmp_path / "sound.wav", 0.5, seconds=0.9, rate=8000)
    timeline = of_sound.predict(tmp_path / "sound.wav", batch_size=2)
    np.testing.assert_allclose(timeline.starts, [0, 0.2, 0.4, 0.6, 0.8])
    assert timeline.stop == pytest.approx(0.9)
    np.testing.assert_allclose(timeline.loudness, 0.5, atol=0.01)
    whole = MEL(np.full(1600, 0.5, np.float32))
    batch = {"sound": whole[None], "sound_present": np.array([True])}
    model, params, state = of_sound.trained[:3]

    @jax.jit
    def apply(batch):
        return model.apply(params, state, None, **model_inputs(batch), is_training=False)[0]

    logits = apply(batch)
    found = timeline.probabilities
    np.testing.assert_allclose(found[1], scipy.special.expit(logits[0]), rtol=1e-2)
    assert np.abs(found[4] - found[1]).max() > 1e-4, "half of the last stretch is silence"


def test_files_are_written(of_sound, tmp_path):
    folder, output = tmp_path / "sounds", tmp_path / "output"
    write_sound(folder / "one.wav", 0.5, rate=8000)
    (folder / "two.txt").write_text("no sound")
    output.mkdir()
    report = of_sound.write(output, inputs=[str(folder)], top_k=2)
    (answer,) = report.summary["recordings"]
    rows = tagger_rows(output / "one_tags.csv")
    assert rows[0] == ["start", "stop", *NAMES] and len(rows) == 1 + 5
    assert rows[2][:2] == ["0.20", "0.40"]
    means = np.array([row[2:] for row in rows[1:]], float).mean(0)
    assert [x["index"] for x in answer["classes"]] == np.argsort(-means)[:2].tolist()
    probabilities = [x["probability"] for x in answer["classes"]]
    np.testing.assert_allclose(probabilities, np.sort(means)[:0:-1], atol=1e-3)
    assert (output / "one_tags.png").stat().st_size > 5000
    assert report.summary["unreadable"] == [str(folder / "two.txt")]
    assert sorted(x.name for x in output.iterdir()) == ["one_tags.csv", "one_tags.png"]
    with pytest.raises(UserError, match="two.txt"):
        of_sound.write(output, inputs=[str(folder / "two.txt")])


@pytest.mark.slow
def test_a_file_may_lack_sound_or_video(of_both, tmp_path):
    frames = videos.noise(10, 8, 8)
    beep = {0: videos.beep(0.4, 0, 0.4, rate=44_100)}
    both = videos.make(tmp_path / "both.mkv", frames, sound=beep)
    silent = videos.make(tmp_path / "silent.mkv", frames)
    write_sound(tmp_path / "sound.wav", 0.5, seconds=0.4, rate=8000)
    found = {path.stem: of_both.predict(path) for path in (both, silent, tmp_path / "sound.wav")}
    assert {len(timeline.starts) for timeline in found.values()} == {2}
    assert found["silent"].loudness.max() == 0 and found["both"].loudness.max() > 0.4
    differences = [
        found["both"].probabilities - found[x].probabilities for x in ("silent", "sound")
    ]
    assert min(np.abs(x).max() for x in differences) > 1e-3


@pytest.mark.slow
def test_an_empty_file_is_refused(of_sound, tmp_path):
    write_sound(tmp_path / "empty.wav", 0.1, seconds=0)
    with pytest.raises(UserError, match="empty.wav is empty"):
        of_sound.predict(tmp_path / "empty.wav")


def test_video_alone(tmp_path):
    path = videos.make(tmp_path / "video.mkv", videos.noise(12, 8, 8))
    of_video = tagger(dict(video=VIDEO), video=FRAMES)
    timeline = of_video.predict(path)
    assert timeline.probabilities.shape == (3, 3) and timeline.loudness is None
    np.testing.assert_allclose([*timeline.starts, timeline.stop], [0, 0.2, 0.4, 0.48])
    write_sound(tmp_path / "sound.wav", 0.5)
    with pytest.raises(UserError, match="sound.wav has no video stream"):
        of_video.predict(tmp_path / "sound.wav")


def test_overviews_have_a_limited_number_of_columns():
    rng = np.random.default_rng(0)
    probabilities = rng.random((45, 3)).astype(np.float32)
    loudness = rng.random(45)
    weights = np.append(np.ones(44), 0.25)  # of a last stretch of 0.5 s
    overview = Overview(10)
    for index, seconds in enumerate(2 * weights):
        start = 2.0 * index
        overview.add(Stretch(start, start + seconds, probabilities[index], loudness[index]))
    timeline = overview.timeline()
    np.testing.assert_allclose(timeline.starts, 16 * np.arange(6))
    assert timeline.stop == 88.5
    parts = np.split(np.arange(45), range(8, 45, 8))
    expected = [np.average(probabilities[part], 0, weights[part]) for part in parts]
    np.testing.assert_allclose(timeline.probabilities, expected, rtol=1e-6)
    np.testing.assert_allclose(timeline.loudness, [loudness[part].max() for part in parts])
    expected = np.average(probabilities, 0, weights)
    np.testing.assert_allclose(overview.mean(), expected, rtol=1e-6)


def test_figure_without_sound():
    overview = Overview(10)
    overview.add(Stretch(0.0, 1.0, np.full(3, 0.5, np.float32), None))
    figure = tags_over_time(overview.timeline(), [2, 0], NAMES, "video.mp4")
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert names == ["neither", "quiet"]
