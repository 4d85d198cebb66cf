"""Training and evaluation of autoencoders: points, hidden modalities, metrics of whole clips."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_io.data.pipeline.dataset import Dataset
from perceiver_io.data.pipeline.sources import Source
from perceiver_io.data.video.autoencoding import AutoencodingPreparation
from perceiver_io.data.video.recordings import ClipForm, LabelledRecording, Recording
from perceiver_io.errors import UserError
from perceiver_io.losses import measures
from perceiver_io.tasks.evaluation import BatchEvaluator, ChangedModelEvaluator
from perceiver_io.tasks.multimodal_autoencoding.reconstruction import reconstruct
from perceiver_io.tasks.multimodal_autoencoding.streaming import streamed
from perceiver_io.tasks.multimodal_autoencoding.task import (
    MultimodalAutoencoding,
    WholeClips,
    psnr,
)
from tests.helpers.predictions import AUTOENCODER, trained, video_file
from tests.helpers.strategies import mesh_of_one_device
from tests.helpers.videos import gray, make

pytestmark = pytest.mark.usefixtures("for_cpu")

FORM = ClipForm(num_frames=4, frame_rate=25, image_size=(8, 12), samples_per_frame=40)
TASK = MultimodalAutoencoding(6)
# Of image and sound, whether each is present.
EITHER = {(True, False), (False, True)}
NUM_FRAMES = (9, 4, 3)  # of the videos; the last one is shorter than a clip


@dataclasses.dataclass(frozen=True)
class Videos(Source):
    """Generated videos of two classes."""

    recordings: tuple[LabelledRecording, ...]
    splits = ("test",)
    class_names = tuple("abcdef")

    def __call__(self, split):
        return self.recordings


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    recordings = []
    for label, count in enumerate(NUM_FRAMES):
        path = folder / f"{label}.mp4"
        video_file(path, count)
        recordings.append(LabelledRecording(Recording(path, path.name), label))
    preparation = AutoencodingPreparation(
        form=FORM, samples_per_patch=8, image_points=30, audio_points=5, hide_audio=0.3
    )
    return Dataset(source=Videos(tuple(recordings)), preparation=preparation, name="videos")


@pytest.fixture(scope="module")
def batch(dataset):
    return next(iter(dataset.load("test", batch_size=4, training=False, seed=0, shard=(0, 1))))


def test_examples(dataset, batch):
    assert {name: (x.shape[1:], x.dtype) for name, x in batch.items()} == {
        name: (shape[1:], dtype) for name, (shape, dtype) in dataset.batch_spec(1).items()
    }
    np.testing.assert_array_equal(batch["is_real"].sum(1), [4, 4, 3, 0])
    assert batch["image_present"][:3].all() and not batch["label_present"].any()
    rng = np.random.default_rng(0)
    (raw, *_) = dataset.examples("test")
    examples = [dataset.preparation.training_example(raw, rng) for _ in range(200)]
    for name, count in (("image", 4 * 8 * 12), ("audio", 20)):
        points = np.stack([example[f"{name}_points"] for example in examples])
        assert all(len(set(row)) == len(row) for row in points), "no point twice"
        assert set(points.flat) == set(range(count)), "any point"
    hidden = {
        name: 1 - np.mean([x[f"{name}_present"] for x in examples])
        for name in ("image", "audio", "label")
    }
    assert hidden == pytest.approx({"image": 0, "audio": 0.3, "label": 0.5}, abs=0.12)
    assert len({example["image"].tobytes() for example in examples}) == 6, "any first frame"


@pytest.fixture(scope="module")
def without_sound(tmp_path_factory):
    path = make(tmp_path_factory.mktemp("silent") / "a.mkv", gray([99] * 9))
    return LabelledRecording(Recording(path, "a"), 2)


@pytest.fixture(scope="module")
def mixed_batch(dataset, without_sound):
    """Two clips with sound, one without, and padding."""
    source = Videos((*dataset.source.recordings[:2], without_sound))
    mixed = dataclasses.replace(dataset, source=source)
    return next(iter(mixed.load("test", batch_size=4, training=False, seed=0, shard=(0, 1))))


def test_of_clips_without_sound_the_frames_are_given(dataset, without_sound, mixed_batch):
    np.testing.assert_array_equal(mixed_batch["has_sound"][:3], [True, True, False])
    np.testing.assert_array_equal(mixed_batch["audio_present"][:3], [True, True, False])
    hiding = dataclasses.replace(dataset.preparation, hide_image=0.7, hide_audio=0.3)
    rng = np.random.default_rng(0)
    for raw, expected in ((without_sound, {(True, False)}), (dataset.examples("test")[0], EITHER)):
        examples = [hiding.training_example(raw, rng) for _ in range(20)]
        assert {(bool(x["image_present"]), bool(x["audio_present"])) for x in examples} == expected


@pytest.mark.parametrize(
    "given, clips",
    [(("audio", "image"), [0, 1, 2]), (("audio",), [0, 1]), (("audio", "label"), [0, 1, 2])],
)
def test_unknown_sound_is_not_measured(dataset, mixed_batch, given, clips):
    """Clips that have nothing of what is given are left out altogether."""
    task, rng = WholeClips(6, given=given), np.random.default_rng(0)
    outputs = {
        "image": rng.uniform(size=(4, 384, 3)).astype(np.float32),
        "audio": rng.uniform(-1, 1, (4, 20, 8)).astype(np.float32),
        "label": np.eye(6, dtype=np.float32)[[0, 0, 2, 0]],
    }
    present = task.model_inputs(mixed_batch)["inputs"]["present"]
    np.testing.assert_array_equal(present["audio"][:3], [True, True, False])
    arrays = jax.tree.map(jnp.asarray, outputs)
    predictions = task.predictions(arrays, mixed_batch)
    predictions = {name: np.asarray(x)[:3] for name, x in predictions.items()}
    sums = measures(task, arrays, mixed_batch)
    found = {name: float(s / c) for name, (s, c) in sums.items()}
    found |= task.report(predictions, dataset)[0]

    images = [outputs["image"][i].ravel() - mixed_batch["image"][i].ravel() / 255 for i in clips]
    sounds = [(outputs["audio"] - mixed_batch["audio"])[i].ravel() for i in (0, 1)]
    expected = {"top_1": np.mean([(True, False, True)[i] for i in clips])}
    for name, shown, errors in (("image", "video", images), ("audio", "audio", sounds)):
        each = [-10 * np.log10(np.square(error).mean()) for error in errors]
        expected[f"loss_{name}"] = np.abs(errors).mean()
        expected[f"{shown}_psnr"] = -10 * np.log10(np.square(errors).mean())
        expected[f"{shown}_psnr_per_clip"] = np.mean(each)
        expected[f"{shown}_clips"] = len(errors)
    assert {name: found[name] for name in expected} == pytest.approx(expected, rel=1e-5)


def test_without_any_sound_there_is_no_psnr_of_it(dataset):
    names = ("image_squares", "image_count", "audio_squares", "audio_count")
    predictions = dict(zip(names, np.array([[2, 4], [20, 40], [0, 0], [0, 0]]), strict=True))
    metrics, _ = TASK.report(predictions, dataset)
    assert metrics == pytest.approx(
        {"video_psnr": 10, "video_psnr_per_clip": 10, "video_clips": 2, "audio_clips": 0}
    )


@pytest.mark.parametrize(
    "settings,message",
    [
        (dict(samples_per_patch=7), "160 samples of sound, which do not divide into"),
        (dict(image_points=500), "image_points is 500, but a clip has only 384"),
        (dict(hide_image=0.6, hide_audio=0.5), "add up to more than 1"),
    ],
)
def test_settings_of_the_preparation(settings, message):
    usual = dict(samples_per_patch=8, image_points=30, audio_points=5)
    with pytest.raises(UserError, match=message):
        AutoencodingPreparation(form=FORM, **(usual | settings))


def test_model_and_data_have_the_same_patches_of_sound(dataset):
    TASK.check_model(AUTOENCODER, dataset)
    other = dataclasses.replace(dataset.preparation, samples_per_patch=16)
    with pytest.raises(UserError, match="16 samples, the model's 8"):
        TASK.check_model(AUTOENCODER, dataclasses.replace(dataset, preparation=other))


@pytest.mark.slow
def test_whole_clips_are_measured_exactly(dataset, batch):
    model = trained(AUTOENCODER)
    task = WholeClips(6, given=("audio", "image"))
    at_once = BatchEvaluator(task, dataset, "test", 2)
    evaluator = ChangedModelEvaluator(at_once, functools.partial(streamed, chunk_size=100))
    found = evaluator(*model[:3], mesh_of_one_device())
    assert set(found.metrics) == set(evaluator.metric_names(model.model))
    assert set(found.figures) == {"examples"}

    differences = {"image": [], "audio": []}
    errors, entropies, right = {"image": [], "audio": []}, [], []
    for index, count in enumerate(min(x, 4) for x in NUM_FRAMES):
        clip = {
            "image": batch["image"][index] / np.float32(255),
            "audio": batch["audio"][index].reshape(-1, 1),
        }
        whole = reconstruct(model, clip, audio_patches=20, chunk_size=1000)
        real = {"image": count, "audio": 40 * count}
        for name, limits in dict(image=(0, 1), audio=(-1, 1)).items():
            wanted, ours = (x[: real[name]] for x in (clip[name], getattr(whole, name)))
            differences[name].append(np.abs(ours - wanted).ravel())
            errors[name].append(np.square(np.clip(ours, *limits) - wanted).ravel())
        entropies.append(-np.log(whole.label[index]))
        right.append(whole.label.argmax() == index)
    expected = {
        "loss_image": np.concatenate(differences["image"]).mean(),
        "loss_audio": np.concatenate(differences["audio"]).mean(),
        "loss_label": np.mean(entropies),
        "top_1": np.mean(right),
    }
    expected["loss"] = (
        0.03 * expected["loss_image"] + expected["loss_audio"] + 1e-4 * expected["loss_label"]
    )
    for name, shown in (("image", "video"), ("audio", "audio")):
        each = [-10 * np.log10(error.mean()) for error in errors[name]]
        expected[f"{shown}_psnr"] = -10 * np.log10(np.concatenate(errors[name]).mean())
        expected[f"{shown}_psnr_per_clip"] = np.mean(each)
        expected[f"{shown}_clips"] = len(NUM_FRAMES)
    assert found.metrics == pytest.approx(expected, rel=1e-4)


@pytest.mark.slow
def test_what_is_given_is_hidden_from_the_model(batch):
    model, params, state = trained(AUTOENCODER)[:3]

    @jax.jit
    def outputs(batch, task=TASK):
        return model.apply(params, state, None, **task.model_inputs(batch), is_training=False)[0]

    given_all = outputs(batch)
    # The clips' own labels are hidden in evaluation, so that others change nothing.
    other = {**batch, "label": (batch["label"] + 1) % 6}
    jax.tree.map(np.testing.assert_array_equal, outputs(other), given_all)
    silent = {**batch, "audio_present": np.zeros(4, bool)}
    louder = {**silent, "audio": batch["audio"] + 1}
    jax.tree.map(np.testing.assert_array_equal, outputs(louder), outputs(silent))
    assert np.abs(outputs(silent)["image"] - given_all["image"]).max() > 1e-4
    shown = {**batch, "label_present": np.ones(4, bool)}
    assert np.abs(outputs(shown)["image"] - given_all["image"]).max() > 1e-4


def test_evaluators_by_what_is_given(monkeypatch, dataset):
    task = dataclasses.replace(TASK, also_given=(("image",), ("audio", "label")))
    monkeypatch.setattr(MultimodalAutoencoding, "build_dataset", lambda *_: dataset)
    config = {"data": {}, "evaluation": {"splits": ("test",), "batch_size": 2}}
    evaluators = task.evaluators(config)
    assert {name: x.batches.task.given for name, x in evaluators.items()} == {
        "test": ("audio", "image"),
        "test_from_image": ("image",),
        "test_from_audio_label": ("audio", "label"),
    }
    inputs = evaluators["test_from_audio_label"].batches.task.model_inputs(
        next(iter(dataset.load("test", batch_size=2, training=False, seed=0, shard=(0, 1))))
    )["inputs"]
    present = {name: bool(x.all()) for name, x in inputs["present"].items()}
    assert present == {"audio": True, "image": False, "label": True}


def test_psnr_of_a_perfect_reconstruction_is_limited():
    np.testing.assert_allclose(psnr(np.array([0.0, 1e-3, 1e-12])), [100, 30, 100])
