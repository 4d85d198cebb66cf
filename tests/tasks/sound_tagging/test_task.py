"""Tagging of sounds: loss, MixUp, several stretches, missing modalities, figures."""

import jax
import numpy as np
import pytest
import scipy.special
from matplotlib.backends.backend_agg import FigureCanvasAgg

from perceiver_io.data.sound.features import MelSpectrogram
from perceiver_io.data.sound.sounds import sound_mixtures, sounds
from perceiver_io.data.sound.tagged import SpacedStretches
from perceiver_io.errors import UserError
from perceiver_io.tasks.evaluation import BatchEvaluator
from perceiver_io.tasks.sound_tagging import figures, scores
from perceiver_io.tasks.sound_tagging.evaluation import (
    averaged,
    stretches_evaluator,
    without_modality,
)
from perceiver_io.tasks.sound_tagging.task import SoundTagging
from tests.helpers import tiny
from tests.helpers.architectures import CLIPS, initialised, small
from tests.helpers.oracles import normal
from tests.helpers.sections import core
from tests.helpers.strategies import mesh_of_one_device

pytestmark = pytest.mark.usefixtures("for_cpu")

MEL = MelSpectrogram(sample_rate=16_000, num_samples=1600, hop=400, fft_size=512, mel_bands=8)
TASK = SoundTagging(8)
SECTION = dict(
    core(num_layers=1),
    name="perceiver_io_clip_tagger",
    num_classes=8,
    query_dim=8,
    sound=dict(name="spectrogram", shape=(4, 8), patch_size=(2, 4), num_bands=2),
)


def batch_of(dataset, split="test", size=8, training=False):
    batches = dataset.load(split, batch_size=size, training=training, seed=0, shard=(0, 1))
    return next(iter(batches))


def test_targets_and_loss():
    batch = batch_of(sound_mixtures(sound=MEL))
    targets = np.asarray(TASK.targets(batch))
    for row, tags in zip(targets, batch["tags"], strict=True):
        assert set(np.flatnonzero(row)) == set(tags[tags >= 0]) and set(row) == {0, 1}
    logits = normal(8, 8)
    p = scipy.special.expit(logits)
    expected = -np.where(targets == 1, np.log(p), np.log(1 - p))
    np.testing.assert_allclose(TASK.losses(logits, batch)["loss"], expected, rtol=1e-5)
    hit, count = TASK.metrics(logits, batch)["top_1"]
    assert hit == targets[np.arange(8), np.argmax(logits, -1)].sum() and count == 8


def test_pairs_with_different_modalities_are_not_mixed():
    batch = dict(batch_of(sounds(sound=MEL, mixup_alpha=0.5), "train", training=True))
    batch["sound_present"] = np.arange(len(batch["valid"])) != 1
    batch["mixup_weight"] = np.full_like(batch["mixup_weight"], 0.25)
    mixed = TASK.augmented(batch)
    np.testing.assert_array_equal(mixed["sound"][:2], batch["sound"][:2])
    np.testing.assert_array_equal(mixed["targets"][:2], TASK.targets(batch)[:2])
    assert np.any(mixed["sound"][2:] != batch["sound"][2:])


def test_mixup_blends_sounds_and_targets():
    batch = batch_of(sounds(sound=MEL, mixup_alpha=0.5), "train", training=True)
    mixed = TASK.augmented(batch)
    weight = np.repeat(batch["mixup_weight"][::2], 2)
    other = np.arange(8) ^ 1
    for name, x in {"sound": batch["sound"], "targets": TASK.targets(batch)}.items():
        own = weight.reshape(-1, *(1,) * (x.ndim - 1))
        expected = own * np.asarray(x) + (1 - own) * np.asarray(x)[other]
        np.testing.assert_allclose(mixed[name], expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(TASK.targets(mixed), mixed["targets"])
    assert TASK.augmented({"sound": batch["sound"]}).keys() == {"sound"}
    odd = {name: x[:3] for name, x in batch.items()}
    with pytest.raises(UserError, match="3 examples cannot be mixed.*data.mixup_alpha to 0"):
        TASK.augmented(odd)


def test_pixels_are_scaled():
    frames = np.array([0, 255], np.uint8).reshape(1, 2, 1, 1, 1)
    inputs = TASK.model_inputs({"video": frames, "video_present": np.array([True])})["inputs"]
    assert np.asarray(inputs["video"]).ravel().tolist() == [-1, 1]
    assert set(inputs) == {"video", "present"} and set(inputs["present"]) == {"video"}


@pytest.mark.slow
def test_stretches_are_averaged():
    dataset = sounds(sound=MEL)
    model, params, state = initialised(SECTION, TASK.model_inputs(batch_of(dataset))["inputs"])
    evaluator = stretches_evaluator(BatchEvaluator(TASK, dataset, "test", 12), 3)
    result = evaluator(model, params, state, mesh_of_one_device())
    assert set(result.metrics) <= set(evaluator.metric_names(model))
    assert "examples" not in result.figures and "average_precision" in result.figures

    several = SpacedStretches(dataset.preparation, 3)
    rows = [several.evaluation_example(raw, None) for raw in dataset.examples("test")]
    given = ("sound", "sound_present")
    stacked = {name: np.concatenate([row[name] for row in rows]) for name in given}

    @jax.jit
    def apply(batch):
        return model.apply(params, state, None, **TASK.model_inputs(batch), is_training=False)[0]

    logits = apply(stacked)
    mean = scipy.special.expit(np.asarray(logits, np.float64)).reshape(-1, 3, 8).mean(1)
    is_tag = np.eye(8, dtype=bool)[[row["tags"][0] for row in rows]]
    for name, value in scores.means(is_tag, mean).items():
        assert result.metrics[name] == pytest.approx(value, rel=1e-4)
    loss = -np.where(is_tag, np.log(mean), np.log(1 - mean)).mean()
    assert result.metrics["loss"] == pytest.approx(loss, rel=1e-4)


def test_logits_of_the_mean_are_exact_for_certain_answers():
    logits = np.array([[[40.0], [30.0]], [[-40.0], [-30.0]]], np.float32)
    model = tiny.Model(None, lambda params, state, rng, inputs, is_training: (inputs, state))
    found, _ = averaged(model, None, None, None, inputs=logits, is_training=False)
    p = 1 / (1 + np.exp(np.float64([[40, 30]])))
    expected = np.log((1 - p.mean()) / p.mean())
    np.testing.assert_allclose(found.ravel(), [expected, -expected], rtol=1e-5)


@pytest.mark.slow
def test_a_modality_is_withheld():
    section, _ = small("perceiver_io_clip_tagger")
    model, params, state = initialised(section, CLIPS)
    seen = []

    def logits(model, inputs):
        apply = jax.jit(lambda x: model.apply(params, state, None, inputs=x, is_training=False)[0])
        return apply(inputs)

    def single(model, params, state, strategy):
        seen.append(logits(model, CLIPS))

    evaluator = without_modality(single, "sound")
    evaluator(model, params, state, None)
    changed = CLIPS | {"present": CLIPS["present"] | {"sound": np.zeros(2, bool)}}
    np.testing.assert_allclose(seen[0], logits(model, changed), rtol=1e-5)


def test_names_of_evaluators():
    data = dict(name="sounds", sound=dict(name="waveform", sample_rate=16_000, num_samples=160))
    config = {"data": data, "evaluation": {"splits": ("test",), "batch_size": 8}}
    task = SoundTagging(8, stretches=16, without=("sound", "video"))
    names = {"test", "test_16_stretches", "test_without_sound", "test_without_video"}
    assert set(task.evaluators(config)) == names
    assert set(TASK.evaluators(config)) == {"test"}


def test_report():
    dataset = sounds(sound=MEL)
    rng = np.random.default_rng(0)
    predictions = {"is_tag": rng.random((30, 8)) < 0.3, "probability": rng.random((30, 8))}
    predictions["is_tag"][:, 2] = False
    metrics, drawn = TASK.report(predictions, dataset)
    assert set(metrics) <= set(TASK.reported(dataset))
    assert "average_precision/bass drum" not in metrics and len(metrics) == 3 + 7
    FigureCanvasAgg(drawn["average_precision"]).draw()


@pytest.mark.parametrize("kind", ["mel", "waveform", "video"])
def test_figure_of_examples(kind):
    dataset = sounds(sound=MEL)
    batch = dict(batch_of(dataset))
    batch["valid"] = np.arange(8) < 6
    if kind == "waveform":
        batch["sound"] = np.random.default_rng(0).uniform(-1, 1, (8, 700, 1))
    if kind == "video":
        batch["video"] = np.zeros((8, 2, 6, 9, 3), np.uint8)
    logits = 5 * np.eye(8)[batch["tags"][:, 0]] - 2
    figure = TASK.figure(logits, batch, dataset)
    FigureCanvasAgg(figure).draw()
    titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
    assert len(titles) == 6
    name = dataset.class_names[batch["tags"][0, 0]]
    assert titles[0] == f"\N{CHECK MARK} {name}, 95%"


def test_only_the_best_and_worst_of_many_classes_are_drawn():
    figure = figures.precisions_by_class({f"class {i}": i / 100 for i in range(100)})
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels[0] == "class 99" and labels[-1] == "class 0" and len(labels) == 20
