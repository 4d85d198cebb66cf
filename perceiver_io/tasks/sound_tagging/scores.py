"""Scores of rankings: average precision, area under the ROC curve, d-prime."""

import numpy as np
import scipy.stats
import sklearn.metrics
from jaxtyping import Bool, Float


def average_precisions(
    tags: Bool[np.ndarray, "N K"], scores: Float[np.ndarray, "N K"]
) -> Float[np.ndarray, " K"]:
    """Average precision of each class over the examples, as scikit-learn defines it.

    NaN for a class that no example has.
    """
    found = np.full(tags.shape[1], np.nan)
    for index in np.flatnonzero(tags.any(0)):
        found[index] = sklearn.metrics.average_precision_score(tags[:, index], scores[:, index])
    return found


def areas(
    tags: Bool[np.ndarray, "N K"], scores: Float[np.ndarray, "N K"]
) -> Float[np.ndarray, " K"]:
    """Area under the ROC curve of each class; NaN for a class that no or every example has."""
    found = np.full(tags.shape[1], np.nan)
    for index in np.flatnonzero(tags.any(0) & ~tags.all(0)):
        found[index] = sklearn.metrics.roc_auc_score(tags[:, index], scores[:, index])
    return found


def d_prime(area: float) -> float:
    """The distance of two normal distributions of deviation 1 with this area under the curve."""
    return float(np.sqrt(2) * scipy.stats.norm.ppf(area))


def means(tags: Bool[np.ndarray, "N K"], scores: Float[np.ndarray, "N K"]) -> dict[str, float]:
    """`map`, `auc` and `d_prime`, each over the classes for which it is defined.

    As in AudioSet's evaluation, d-prime is that of the mean area. Without any such class, a metric
    is left out.
    """
    metrics = {}
    precisions, curves = average_precisions(tags, scores), areas(tags, scores)
    if np.isfinite(precisions).any():
        metrics["map"] = float(np.nanmean(precisions))
    if np.isfinite(curves).any():
        metrics["auc"] = float(np.nanmean(curves))
        metrics["d_prime"] = d_prime(metrics["auc"])
    return metrics
