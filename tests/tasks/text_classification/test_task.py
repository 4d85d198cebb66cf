"""Text classification against NumPy and scikit-learn."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import sklearn.metrics
from matplotlib.backends.backend_agg import FigureCanvasAgg

from perceiver_io.data.text.text_file import classified_text_file
from perceiver_io.errors import UserError
from perceiver_io.losses import batch_loss
from perceiver_io.tasks.text_classification.task import TextClassification


@pytest.fixture
def dataset(tmp_path):
    rows = [f"text number {i},{'abc'[i % 3]}" for i in range(40)]
    (tmp_path / "t.csv").write_text("\n".join(["text,label", *rows]))
    return classified_text_file(train=str(tmp_path / "t.csv"), max_length=24)


def with_classes(*names):
    """A dataset of which only the names of its classes are used."""
    return classified_text_file(train="unread.csv", classes=names, max_length=8)


def batch_of(dataset):
    return next(iter(dataset.load("train", batch_size=40, training=False, seed=0, shard=(0, 1))))


def test_loss_and_metrics(dataset):
    batch, task = batch_of(dataset), TextClassification(3, label_smoothing=0.1)
    task.check_dataset(dataset)
    valid = batch["valid"]
    assert 20 < valid.sum() < 40
    logits = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    label = batch["label"][valid]
    targets = 0.9 * np.eye(3)[label] + 0.1 / 3
    expected = -(targets * scipy.special.log_softmax(logits[valid], -1)).sum(-1).mean()
    np.testing.assert_allclose(batch_loss(task, jnp.asarray(logits), batch), expected, rtol=1e-5)
    total, count = task.metrics(jnp.asarray(logits), batch)["accuracy"]
    found = logits[valid].argmax(-1)
    assert float(total / count) == pytest.approx(sklearn.metrics.accuracy_score(label, found))


@pytest.mark.parametrize(("count", "name"), [(2, "f1"), (3, "macro_f1")])
def test_report(count, name):
    rng = np.random.default_rng(1)
    label = rng.integers(0, count, 100)
    prediction = np.where(rng.random(100) < 0.6, label, rng.integers(0, count, 100))
    named = with_classes(*("no", "yes", "maybe")[:count])
    task = TextClassification(count)
    metrics, figures = task.report(dict(label=label, prediction=prediction), named)
    assert tuple(metrics) == task.reported(named) and set(figures) == {"confusion"}
    # By definition, from the confusion matrix.
    matrix = np.zeros((count, count))
    np.add.at(matrix, (label, prediction), 1)
    f1 = 2 * np.diag(matrix) / (matrix.sum(0) + matrix.sum(1))
    assert metrics[name] == pytest.approx(f1[1] if count == 2 else f1.mean())
    if count == 2:
        expected = np.corrcoef(label, prediction)[0, 1]
        assert metrics["matthews"] == pytest.approx(expected)


def test_a_constant_answer_has_no_correlation():
    named = with_classes("no", "yes")
    rows = dict(label=np.array([0, 1, 1]), prediction=np.zeros(3, int))
    assert TextClassification(2).report(rows, named)[0] == {"matthews": 0, "f1": 0}


def test_another_number_of_classes(dataset):
    with pytest.raises(UserError, match="The dataset has 3 classes, but .*num_classes is 2"):
        TextClassification(2).check_dataset(dataset)
    with pytest.raises(UserError, match="The model has 2 classes, but .*num_classes is 3"):
        TextClassification(3).losses(jnp.zeros((40, 2)), batch_of(dataset))


def test_figure_shows_texts_and_answers(dataset):
    batch = batch_of(dataset)
    logits = np.where(np.eye(3)[batch["label"]] == 1, 9, 0).astype(np.float32)
    logits[0] = logits[0, [1, 2, 0]]
    figure = TextClassification(3).figure(logits, batch, dataset)
    FigureCanvasAgg(figure).draw()
    texts = [text.get_text() for text in figure.texts]
    assert len(texts) == 32
    right, wrong = texts[2], texts[0]
    assert right.endswith(", 100%") and "; is " in wrong
    assert texts[1] == dataset.source("train")[0].texts[0]
