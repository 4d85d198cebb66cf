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

    As in AudioSet's evaluation, d-prime is that of the mean area. It would be infinite for an area
    of 1, which N examples, P of them of a class, cannot tell from 1 - 1 / (2 P (N - P)), where half
    a pair is out of order: the mean area counts as that of these at most, and as much above 0 at
    least. Without any such class, a metric is left out.
    """
    metrics = {}
    precisions, curves = average_precisions(tags, scores), areas(tags, scores)
    if np.isfinite(precisions).any():
        metrics["map"] = float(np.nanmean(precisions))
    if np.isfinite(curves).any():
        metrics["auc"] = float(np.nanmean(curves))
        positives = tags.sum(0)[np.isfinite(curves)]
        half_pair = np.mean(1 / (2 * positives * (len(tags) - positives)))
        metrics["d_prime"] = d_prime(np.clip(metrics["auc"], half_pair, 1 - half_pair))
    return metrics
