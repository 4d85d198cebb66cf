"""Logistic regression on the mean of mel features over time, the baseline of `compare_sounds`."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from perceiver_io.data.pipeline.dataset import Dataset
from perceiver_io.data.sound.tagged import SpacedStretches
from perceiver_io.tasks.sound_tagging import scores

_STRENGTHS = (0.01, 0.1, 1.0, 10.0)
# Only the first of many mixtures, whose number hardly matters to a linear model.
_MOST_EXAMPLES = 2000


class Features(NamedTuple):
    """Of the examples of a split: the mean of each mel band, and whether each class is theirs."""

    means: Float[np.ndarray, "N M"]
    is_tag: Bool[np.ndarray, "N K"]


def on_test_split(dataset: Dataset, stretches: int) -> dict[str, float]:
    """`top_1` and `map` of the model whose regularisation is the best one on the validation split.

    Args:
        dataset: whose sound is a spectrogram.
        stretches: of each recording, at equal distances, over which the mean is taken too.
    """
    of = {split: features(dataset, split, stretches) for split in dataset.source.splits}
    models = [
        OneVsRestClassifier(
            make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=5000))
        ).fit(*of["train"])
        for strength in _STRENGTHS
    ]
    best = max(models, key=lambda model: measured(model, of["validation"])["map"])
    return measured(best, of["test"])


def features(dataset: Dataset, split: str, stretches: int) -> Features:
    """The features of the first examples of a split."""
    several = SpacedStretches(dataset.preparation, stretches)
    rng = np.random.default_rng(0)
    examples = dataset.examples(split)
    prepared = [
        several.evaluation_example(examples[index], rng)
        for index in range(min(len(examples), _MOST_EXAMPLES))
    ]
    is_tag = np.zeros((len(prepared), len(dataset.class_names)), bool)
    for row, example in zip(is_tag, prepared, strict=True):
        row[example["tags"][example["tags"] >= 0]] = True
    return Features(np.stack([x["sound"].mean((0, 1, 3)) for x in prepared]), is_tag)


def measured(model: OneVsRestClassifier, split: Features) -> dict[str, float]:
    """`top_1` and `map`, as in `SoundTagging`."""
    probability = model.predict_proba(split.means)
    best = probability.argmax(-1)
    right = np.take_along_axis(split.is_tag, best[:, None], axis=1)
    return {"top_1": float(right.mean()), **scores.means(split.is_tag, probability)}
