"""Image classification against NumPy and scikit-learn."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import sklearn.metrics

from perceiver_io.config.construct import lookup
from perceiver_io.data.vision.digits import Digits
from perceiver_io.data.vision.digits import digits as composed_digits
from perceiver_io.errors import UserError
from perceiver_io.losses import batch_loss
from perceiver_io.tasks import TASKS
from perceiver_io.tasks.image_classification.task import ImageClassification

TASK = ImageClassification(num_classes=10, label_smoothing=0.1)
loss_of, metrics_of, predictions_of = map(
    jax.jit, (functools.partial(batch_loss, TASK), TASK.metrics, TASK.predictions)
)


@pytest.fixture(scope="module")
def digits():
    return composed_digits(
        num_workers=0, mean=(0.3,), std=(0.4,), max_shift=0.0, max_rotation=0.0, max_zoom=0.0
    )


@pytest.fixture
def batch(digits):
    return next(iter(digits.load("test", batch_size=50, training=False, seed=0, shard=(0, 1))))


@pytest.fixture
def logits(batch):
    noise = np.random.default_rng(0).normal(size=(50, 10), scale=2)
    return (noise + 3 * one_hot(batch)).astype(np.float32)


def one_hot(batch):
    return np.eye(10, dtype=np.float32)[batch["label"]]


def ratio(metric):
    total, count = metric
    return float(total) / float(count)


def test_loss_is_smoothed_cross_entropy(batch, logits):
    targets = 0.9 * one_hot(batch) + 0.1 / 10
    expected = -(targets * scipy.special.log_softmax(logits, axis=-1)).sum(-1).mean()
    np.testing.assert_allclose(loss_of(logits, batch), expected, rtol=1e-6)


def test_sigmoid_loss_sums_the_binary_cross_entropies_of_all_classes(batch, logits):
    task = dataclasses.replace(TASK, cross_entropy="sigmoid")
    targets, right = 0.9 * one_hot(batch) + 0.1 / 10, scipy.special.expit(logits)
    expected = -(targets * np.log(right) + (1 - targets) * np.log1p(-right)).sum(-1).mean()
    np.testing.assert_allclose(batch_loss(task, jnp.asarray(logits), batch), expected, rtol=1e-5)


def test_loss_is_linear_in_soft_labels(batch, logits):
    other = batch | {"label": np.roll(batch["label"], 1)}
    mixed = batch | {"label": 0.3 * one_hot(batch) + 0.7 * one_hot(other)}
    expected = 0.3 * loss_of(logits, batch) + 0.7 * loss_of(logits, other)
    np.testing.assert_allclose(loss_of(logits, mixed), expected, rtol=1e-5)


def test_without_smoothing_a_certain_right_answer_has_no_loss(batch):
    task = dataclasses.replace(TASK, label_smoothing=0.0)
    assert batch_loss(task, jnp.asarray(1e4 * one_hot(batch)), batch) == 0


def test_gradient_is_probability_minus_target_over_the_valid_examples(batch, logits):
    valid = np.arange(50) < 30
    gradient = jax.grad(loss_of)(jnp.asarray(logits), batch | {"valid": valid})
    targets = 0.9 * one_hot(batch) + 0.1 / 10
    expected = (scipy.special.softmax(logits, axis=-1) - targets) * valid[:, None] / 30
    np.testing.assert_allclose(gradient, expected, atol=1e-7)


def test_accuracies_equal_scikit_learn(batch, logits):
    label = batch["label"]
    metrics = metrics_of(logits, batch)
    for k in (1, 5):
        expected = sklearn.metrics.top_k_accuracy_score(label, logits, k=k, labels=range(10))
        assert 0 < expected < 1
        assert ratio(metrics[f"top_{k}"]) == pytest.approx(expected)


def test_constant_logits_are_right_at_chance_only():
    batch = {"label": np.arange(10), "valid": np.ones(10, bool)}
    metrics = metrics_of(np.zeros((10, 10), np.float32), batch)
    assert ratio(metrics["top_1"]) == pytest.approx(0.1)
    assert ratio(metrics["top_5"]) == pytest.approx(0.5)


@pytest.mark.parametrize(("num_classes", "has_top_5"), [(5, False), (6, True)])
def test_top_5_needs_more_than_five_classes(num_classes, has_top_5):
    task = dataclasses.replace(TASK, num_classes=num_classes)
    batch = {"label": np.arange(num_classes), "valid": np.ones(num_classes, bool)}
    assert ("top_5" in jax.jit(task.metrics)(np.eye(num_classes), batch)) == has_top_5


@pytest.mark.parametrize("filler", [0.0, np.inf, np.nan])
def test_padding_changes_nothing(batch, logits, filler):
    padded = {name: np.concatenate([x, np.zeros_like(x[:7])]) for name, x in batch.items()}
    padded_logits = np.concatenate([logits, np.full_like(logits[:7], filler)])
    plain, with_padding = metrics_of(logits, batch), metrics_of(padded_logits, padded)
    for name, metric in plain.items():
        np.testing.assert_allclose(with_padding[name], metric, rtol=1e-6)
    np.testing.assert_allclose(loss_of(padded_logits, padded), loss_of(logits, batch), rtol=1e-6)


def test_metrics_add_up_over_batches(batch, logits):
    whole = metrics_of(logits, batch)
    parts = [
        metrics_of(logits[rows], {name: x[rows] for name, x in batch.items()})
        for rows in (slice(0, 17), slice(17, 50))
    ]
    summed = jax.tree.map(lambda *values: sum(values), *parts)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), summed, whole)


def test_predictions(batch, logits):
    predictions = predictions_of(logits, batch)
    probabilities = scipy.special.softmax(logits, axis=-1)
    np.testing.assert_array_equal(predictions["label"], batch["label"])
    np.testing.assert_array_equal(predictions["prediction"], logits.argmax(-1))
    np.testing.assert_allclose(predictions["probability"], probabilities.max(-1), rtol=1e-5)


def test_report_gives_accuracy_by_class(batch, logits, digits):
    predictions = {k: np.asarray(v) for k, v in predictions_of(logits, batch).items()}
    metrics, figures = TASK.report(predictions, digits)
    label, prediction = predictions["label"], predictions["prediction"]
    recalls = sklearn.metrics.recall_score(label, prediction, average=None, labels=range(10))
    for k, name in enumerate(digits.class_names):
        assert metrics[f"class_accuracy/{name}"] == pytest.approx(recalls[k])
    expected = sklearn.metrics.balanced_accuracy_score(label, prediction)
    assert metrics["mean_class_accuracy"] == pytest.approx(expected)
    assert set(figures) == {"confusion"}
    assert set(TASK.reported(digits)) == set(metrics)


def test_report_leaves_out_classes_that_do_not_occur(digits):
    predictions = {"label": np.array([1, 1, 4]), "prediction": np.array([1, 0, 4])}
    metrics, _ = TASK.report(predictions, digits)
    assert metrics == {
        "mean_class_accuracy": 0.75,
        "class_accuracy/1": 0.5,
        "class_accuracy/4": 1.0,
    }


def test_report_of_many_classes_is_short(digits):
    class ManyClasses(Digits):
        class_names = tuple(f"class {k}" for k in range(1000))

    many = dataclasses.replace(digits, source=ManyClasses())
    labels = np.random.default_rng(0).integers(0, 1000, 3000)
    task = dataclasses.replace(TASK, num_classes=1000)
    metrics, figures = task.report({"label": labels, "prediction": labels // 2}, many)
    assert set(metrics) == {"mean_class_accuracy"} == set(task.reported(many))
    # Bars of the worst pairs instead of a thousand rows.
    assert len(figures["confusion"].axes[0].patches) == 20


def test_figure_shows_valid_examples_with_answers(batch, logits, digits):
    figure = TASK.figure(logits, batch | {"valid": np.arange(50) < 8}, digits)
    shown = [axes for axes in figure.axes if axes.images]
    assert len(shown) == 8
    for i, axes in enumerate(shown):
        pixels = np.squeeze(axes.images[0].get_array())
        np.testing.assert_array_equal(pixels, np.rint(batch["image"][i, ..., 0]))
        answer, truth = logits[i].argmax(), batch["label"][i]
        caption = axes.get_title()
        assert f" {answer}, {scipy.special.softmax(logits[i]).max():.0%}" in caption
        assert caption.endswith(f"is {truth}") == (answer != truth)


def test_figure_spreads_over_a_large_batch(batch, logits, digits):
    figure = TASK.figure(logits, batch, digits)
    pixels = [np.squeeze(axes.images[0].get_array()) for axes in figure.axes if axes.images]
    assert len(pixels) == 24
    np.testing.assert_array_equal(pixels[-1], np.rint(batch["image"][49, ..., 0]))


def test_model_inputs(batch):
    assert TASK.model_inputs(batch).keys() == {"inputs"}
    assert TASK.model_inputs(batch)["inputs"] is batch["image"]


def test_number_of_classes_must_agree(batch, logits, digits):
    with pytest.raises(UserError, match=r"model has 7 classes.*num_classes is 10"):
        loss_of(logits[:, :7], batch)
    TASK.check_dataset(digits)
    with pytest.raises(UserError, match=r"dataset has 10 classes.*num_classes is 7"):
        dataclasses.replace(TASK, num_classes=7).check_dataset(digits)


def test_tables_of_tasks_and_datasets_hold_dotted_names():
    assert lookup(TASKS, {"name": "image_classification"}, "config.task") is ImageClassification
    found = lookup(ImageClassification.datasets, {"name": "digits"}, "config.data")
    assert found is composed_digits
