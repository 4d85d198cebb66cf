"""Linear models of word counts, as baselines of the text tasks."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import scipy.sparse
from jaxtyping import Float
from scipy.stats import spearmanr
from sklearn.dummy import DummyClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge

from perceiver_io.data.text.examples import LabelledText

_STRENGTHS = (0.01, 0.1, 1.0, 10.0, 100.0)

Splits = Mapping[str, Sequence[LabelledText]]
"""The examples of train, validation and test."""


class Kind(NamedTuple):
    """Classes or scores: the metric, the linear model of a strength of regularisation."""

    metric: Callable[[np.ndarray, np.ndarray], float]
    linear: Callable[[float], LogisticRegression | Ridge]


def accuracy(predicted: np.ndarray, true: np.ndarray) -> float:
    """The share of predictions that are right."""
    return float(np.mean(predicted == true))


def spearman(predicted: np.ndarray, true: np.ndarray) -> float:
    """The rank correlation."""
    return float(spearmanr(predicted, true).statistic)


KINDS = {
    "accuracy": Kind(accuracy, lambda strength: LogisticRegression(C=1 / strength, max_iter=1000)),
    "spearman": Kind(spearman, lambda strength: Ridge(alpha=strength)),
}


def most_frequent(splits: Splits) -> float:
    """The accuracy on the test split of the class that is most frequent in training."""
    model = DummyClassifier().fit(*_features_of_nothing(splits["train"]))
    features, labels = _features_of_nothing(splits["test"])
    return accuracy(model.predict(features), labels)


def tf_idf(splits: Splits, metric: str) -> float:
    """The metric on the test split of a linear model, regularised as is best in validation.

    Its features are TF-IDF weights of words and pairs of words; of two texts their products, their
    absolute differences, and the cosine.
    """
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    vectorizer.fit(text for example in splits["train"] for text in example.texts)
    features = {split: _features(vectorizer, examples) for split, examples in splits.items()}
    labels = {split: _labels(examples) for split, examples in splits.items()}
    kind = KINDS[metric]
    models = [kind.linear(strength) for strength in _STRENGTHS]
    for model in models:
        model.fit(features["train"], labels["train"])

    def score(model: LogisticRegression | Ridge, split: str) -> float:
        return kind.metric(model.predict(features[split]), labels[split])

    return score(max(models, key=lambda model: score(model, "validation")), "test")


def _features(
    vectorizer: TfidfVectorizer, examples: Sequence[LabelledText]
) -> scipy.sparse.csr_matrix:
    columns = zip(*(example.texts for example in examples), strict=True)
    weights = [vectorizer.transform(column) for column in columns]
    if len(weights) == 1:
        return weights[0]
    first, second = weights
    products = first.multiply(second)
    return scipy.sparse.hstack([products, abs(first - second), products.sum(axis=1)]).tocsr()


def _labels(examples: Sequence[LabelledText]) -> Float[np.ndarray, " N"]:
    return np.array([example.label for example in examples])


def _features_of_nothing(examples: Sequence[LabelledText]) -> tuple[np.ndarray, np.ndarray]:
    return np.zeros((len(examples), 1)), _labels(examples)
