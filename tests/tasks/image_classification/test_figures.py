"""The contents of figures, read back from the drawing."""

import numpy as np
import pytest
import sklearn.metrics
from matplotlib.backends.backend_agg import FigureCanvasAgg

from perceiver_io.tasks.image_classification import figures

NAMES = ("apple", "pear", "plum", "never", "a name that is far too long to be printed whole")


@pytest.fixture
def answers():
    rng = np.random.default_rng(0)
    labels = rng.choice([0, 1, 2, 4], 300)
    return labels, np.where(rng.random(300) < 0.7, labels, rng.integers(0, 5, 300))


def drawn_pixels(figure):
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())


def test_confusion_matrix_cells(answers):
    labels, predictions = answers
    figure = figures.confusion_matrix(labels, predictions, NAMES)
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
    figure = figures.confusion_matrix(*answers, (r"$\apple$", *NAMES[1:]))
    drawn_pixels(figure)
    assert figure.axes[0].get_yticklabels()[0].get_text() == r"\$\apple\$"


def test_confused_pairs_are_the_most_frequent_ones(answers):
    labels, predictions = answers
    figure = figures.confused_pairs(labels, predictions, NAMES, most=3)
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
    figure = figures.confused_pairs(labels, labels, NAMES)
    assert not figure.axes[0].patches
    assert "300 of 300 right" in figure.axes[0].get_title()


@pytest.mark.parametrize("count", [0, 1, 6, 7])
def test_classified_images_are_drawn(count):
    images = [np.full((4, 4, 3), (255, 0, 20 * i), np.uint8) for i in range(count)]
    labels = np.arange(count) % 5
    figure = figures.classified_images(images, labels, np.eye(5)[np.zeros(count, int)], NAMES)
    pixels = drawn_pixels(figure)
    for image in images:
        assert (pixels[..., :3] == image[0, 0]).all(axis=-1).any()


def test_right_and_wrong_differ_in_mark_and_colour():
    images = [np.zeros((4, 4, 1), np.uint8)] * 2
    figure = figures.classified_images(images, np.array([1, 2]), np.eye(5)[[1, 1]], NAMES)
    right, wrong = (axes.title for axes in figure.axes[:2])
    assert right.get_text() == "\N{CHECK MARK} pear, 100%"
    assert wrong.get_text() == "\N{BALLOT X} pear, 100%\nis plum"
    assert right.get_color() != wrong.get_color()
