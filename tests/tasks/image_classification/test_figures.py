"""The contents of figures, read back from the drawing."""

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from perceiver_io.tasks.image_classification import figures

NAMES = ("apple", "pear", "plum", "never", "a name that is far too long to be printed whole")


def drawn_pixels(figure):
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())


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
