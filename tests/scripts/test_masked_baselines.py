"""Baselines of masked bytes, on texts that are counted by hand."""

import math

import numpy as np

from scripts import _masked_counts as baselines

UNIFORM = np.full(256, 1 / 256)


def test_words_know_their_visible_neighbours():
    one, two, three = baselines.words_of(b" one two\nthree ", [False, True, False])
    assert (one.before, one.after) == (None, None)
    assert two == (b"two", b"one", b"three")
    assert (three.before, three.after) == (None, None)
    assert two.contexts == [
        (3,), (3, "before", b"one"), (3, "after", b"three"), (3, b"one", b"three")
    ]  # fmt: skip
    assert one.contexts == [(3,), None, None, None]


def test_bytes_given_the_word_before():
    training = [b"a xy", b"a xy", b"b xz"]
    word = baselines.Masked(b"xy", b"a", None)
    counts = baselines.context_counts(training, [word])
    assert counts[(2,)][1, ord("y")] == 2 and counts[(2,)][1, ord("z")] == 1
    losses = baselines.word_losses([word], counts, UNIFORM, 1)
    x, y = (3 + 1 / 256) / 4, (2 + 1 / 256) / 4
    assert math.isclose(losses["length and place"], -(math.log(x) + math.log(y)) / 2)
    x, y = (2 + x) / 3, (2 + y) / 3
    assert math.isclose(losses["length, place, word before"], -(math.log(x) + math.log(y)) / 2)
    assert losses["length, place, word after"] == losses["length and place"]


def test_trigrams():
    loss = baselines.trigram_loss([b"abcabd"], [(b"abc", [0, 2])], UNIFORM, 2)
    pair = (1 + 2 / 256) / (2 + 2)  # c after b
    assert math.isclose(loss, -math.log((1 + 2 * pair) / (2 + 2)))


def test_figure_with_a_line_for_each_baseline():
    (axes,) = baselines.draw({100: 3.0, 200: 2.5}, {"byte frequencies": 3.3, "trigram": 2.1}).axes
    curve, *lines = axes.lines
    np.testing.assert_array_equal(curve.get_xydata(), [(100, 3.0), (200, 2.5)])
    assert [line.get_ydata()[0] for line in lines] == [3.3, 2.1]
    assert curve.get_label().endswith("2.500")
