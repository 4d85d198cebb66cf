"""Average precision, areas and d-prime against their definitions."""

import numpy as np
import pytest
import scipy.integrate
import scipy.stats

from perceiver_io.tasks.sound_tagging import scores

RNG = np.random.default_rng(0)
TAGS = RNG.random((40, 5)) < 0.3
PROBABILITIES = RNG.random((40, 5)).round(1)  # with ties


def precision_at_each_threshold(is_tag, probability):
    total = 0
    thresholds = sorted(set(probability), reverse=True)
    recall = 0
    for threshold in thresholds:
        taken = probability >= threshold
        new = (is_tag & taken).sum() / is_tag.sum()
        total += (new - recall) * is_tag[taken].mean()
        recall = new
    return total


def test_average_precision():
    found = scores.average_precisions(TAGS, PROBABILITIES)
    pairs = zip(TAGS.T, PROBABILITIES.T, strict=True)
    expected = [precision_at_each_threshold(*pair) for pair in pairs]
    np.testing.assert_allclose(found, expected)


def test_area_is_the_share_of_pairs_in_order():
    found = scores.areas(TAGS, PROBABILITIES)
    for is_tag, probability, area in zip(TAGS.T, PROBABILITIES.T, found, strict=True):
        difference = probability[is_tag][:, None] - probability[~is_tag]
        assert area == pytest.approx(((difference > 0) + 0.5 * (difference == 0)).mean())


@pytest.mark.parametrize("distance", [0.0, 1.0, 2.5])
def test_d_prime_is_the_distance_of_normal_distributions(distance):
    normal = scipy.stats.norm
    area, _ = scipy.integrate.quad(lambda x: normal.pdf(x, distance) * normal.cdf(x), -10, 15)
    assert scores.d_prime(area) == pytest.approx(distance, abs=1e-6)


def test_means_are_over_the_classes_that_occur():
    tags = TAGS.copy()
    tags[:, 1], tags[:, 2] = False, True
    found = scores.means(tags, PROBABILITIES)
    precisions = scores.average_precisions(tags, PROBABILITIES)
    assert np.isnan(precisions[1]) and precisions[2] == 1
    assert found["map"] == pytest.approx(np.mean(precisions[[0, 2, 3, 4]]))
    assert found["auc"] == pytest.approx(scores.areas(tags, PROBABILITIES)[[0, 3, 4]].mean())
    normal = scipy.stats.norm
    assert found["d_prime"] == pytest.approx(2**0.5 * normal.ppf(found["auc"]))
    assert scores.means(np.zeros((4, 2), bool), PROBABILITIES[:4, :2]) == {}


def test_d_prime_of_a_perfect_ranking_is_finite():
    """1 of 4 and 2 of 4 have the classes: 3 and 4 pairs, of which half a one counts as wrong."""
    tags = np.array([[1, 1], [0, 1], [0, 0], [0, 0]], bool)
    for scored, sign in ((tags, 1), (~tags, -1)):
        found = scores.means(tags, scored.astype(float))
        assert found["auc"] == (sign + 1) / 2
        limit = 1 - (1 / 6 + 1 / 8) / 2
        assert found["d_prime"] == pytest.approx(sign * 2**0.5 * scipy.stats.norm.ppf(limit))
