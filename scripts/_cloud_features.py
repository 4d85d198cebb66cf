"""Simple features of the shapes of clouds; see `shape_baseline.py`."""

import numpy as np
from jaxtyping import Float
from scipy.spatial.distance import pdist

_BINS = 16


def shape_features(points: Float[np.ndarray, "P 3"]) -> Float[np.ndarray, " F"]:
    """Features of a normalised cloud: extents, moments, heights, and distances between points.

    These are the extents along x, y and z; second and third moments of the coordinates; a histogram
    of the coordinates along each axis; and one of the distances of all pairs (D2, Osada et al.,
    2002), relative to the greatest.
    """
    low, high = points.min(0), points.max(0)
    second = points.T @ points / len(points)
    third = (points**3).mean(0)
    places = (points - low) / np.maximum(high - low, 1e-6)
    along = [np.histogram(axis, _BINS, (0, 1))[0] / len(points) for axis in places.T]
    distances = pdist(points)
    between = np.histogram(distances / distances.max(), _BINS, (0, 1))[0] / len(distances)
    return np.concatenate([high - low, second[np.triu_indices(3)], third, *along, between])
