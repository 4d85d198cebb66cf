"""Figures of confusions, read back from the drawing."""

import numpy as np
import pytest
import sklearn.metrics
from matplotlib.backends.backend_agg import FigureCanvasAgg

from perceiver_io.tasks.confusion import confused_pairs, confusion_matrix

NAMES = ("apple", "pear", "plum", "never", "a name that is far too long to be printed whole")


@pytest.fixture
def answers():
    rng = np.random.default_rng(0)
    labels = rng.choice([0, 1, 2, 4], 300)
    return labels, np.where(rng.random(300) < 0.7, labels, rng.integers(0, 5, 300))


def test_confusion_matrix_cells(answers):
    labels, predictions = answers
    figure = confusion_matrix(labels, predictions, NAMES)
    axes = figure.axes[0]
    expected = sklearn.metrics.confusion_matrix(labels, predictions, labels=range(5))
    cells = {text.get_position(): int(text.get_text()) for text in axes.texts}
    assert cells == {(j, i): n for (i, j), n in np.ndenumerate(expected) if n}
    shares = axes.images[0].get_array()
    np.testing.assert_allclose(shares.sum(axis=1), [1, 1, 1, 0, 1])
    assert axes.get_ylabel() == "true class"
    assert [tick.get_text() for tick in axes.get_yticklabels()][:4] == list(NAMES[:4])
    assert f"{(labels == predictions).sum()} of 300" in axes.get_title()


def test_dollars_in_names_are_not_mathematics(answers):
    figure = confusion_matrix(*answers, (r"$\apple$", *NAMES[1:]))
    FigureCanvasAgg(figure).draw()
    assert figure.axes[0].get_yticklabels()[0].get_text() == r"\$\apple\$"


def test_confused_pairs_are_the_most_frequent_ones(answers):
    labels, predictions = answers
    figure = confused_pairs(labels, predictions, NAMES, most=3)
    matrix = sklearn.metrics.confusion_matrix(labels, predictions, labels=range(5))
    np.fill_diagonal(matrix, 0)
    axes = figure.axes[0]
    widths = [bar.get_width() for bar in axes.patches]
    assert widths == sorted(matrix.ravel().tolist())[:-4:-1]
    first = axes.get_yticklabels()[0].get_text().split(" \N{RIGHTWARDS ARROW} ")
    true, taken = (next(k for k, name in enumerate(NAMES) if name[:5] == x[:5]) for x in first)
    assert matrix[true, taken] == matrix.max()


def test_confused_pairs_without_errors(answers):
    labels, _ = answers
    figure = confused_pairs(labels, labels, NAMES)
    assert not figure.axes[0].patches
    assert "300 of 300 right" in figure.axes[0].get_title()
