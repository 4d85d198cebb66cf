"""The comparison of methods on text tasks: its baselines and its table."""

import pytest

from perceiver_io.data.text.examples import LabelledText
from scripts import _text_baselines as baselines
from scripts._text_comparison import as_table, draw


def examples(*rows):
    return [LabelledText(tuple(texts), label, "row") for *texts, label in rows]


def test_most_frequent_class():
    splits = {
        "train": examples(("a", 0), ("b", 1), ("c", 1)),
        "test": examples(("d", 1), ("e", 0), ("f", 1), ("g", 0)),
    }
    assert baselines.most_frequent(splits) == 0.5


def test_words_that_tell_the_class():
    rows = [("a good film", 1), ("a bad film", 0), ("good music", 1), ("bad music", 0)]
    splits = dict.fromkeys(("train", "validation"), examples(*rows))
    splits["test"] = examples(("the good end", 1), ("the bad end", 0), ("bad", 1))
    assert baselines.tf_idf(splits, "accuracy") == pytest.approx(2 / 3)


def test_pairs_with_more_words_in_common_have_higher_scores():
    words = ["one two three", "one two six", "one five six", "four five six"]
    rows = [(words[0], other, 3 - rank) for rank, other in enumerate(words)]
    splits = dict.fromkeys(("train", "validation", "test"), examples(*rows))
    assert baselines.tf_idf(splits, "spearman") == pytest.approx(1)


def test_table_has_mean_and_deviation_over_seeds():
    scores = {
        "linear": {"movies": [0.5], "sts": [0.25]},
        "scratch": {"movies": [0.5, 0.7]},
    }
    assert as_table(scores).splitlines() == [
        "| | movies, accuracy | paraphrases, accuracy | sts, spearman |",
        "|---|---|---|---|",
        "| linear | 0.500 |  | 0.250 |",
        "| scratch | 0.600 ± 0.141 |  |  |",
    ]
    bars = [bar.get_height() for bar in draw(scores).axes[0].patches]
    assert bars == pytest.approx([0.5, 0.25, 0.6])
