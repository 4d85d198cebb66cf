"""MixUp and CutMix."""

import numpy as np
import pytest

from perceiver_io.data.vision import mixing


def batch(size=6, seed=0):
    rng = np.random.default_rng(seed)
    image = rng.normal(size=(size, 12, 10, 3)).astype(np.float32)
    label = np.eye(size, dtype=np.float32)
    return image, label


def test_mixup_is_the_weighted_sum():
    image, label = batch(2)
    mixed, soft = image.copy(), label.copy()
    mixing.mixup(mixed, soft, weight=0.7)
    np.testing.assert_allclose(mixed[0], 0.7 * image[0] + 0.3 * image[1], atol=1e-6)
    np.testing.assert_allclose(mixed[1], 0.7 * image[1] + 0.3 * image[0], atol=1e-6)
    np.testing.assert_allclose(soft, [[0.7, 0.3], [0.3, 0.7]], atol=1e-6)


@pytest.mark.parametrize("kept", [0.0, 0.3, 0.9, 1.0])
def test_cutmix_labels_are_the_exact_share_of_exchanged_pixels(kept):
    for seed in range(50):
        image = np.zeros((2, 12, 10, 3), np.float32)
        image[1] = 1
        label = np.eye(2, dtype=np.float32)
        mixing.cutmix(image, label, kept=kept, rng=np.random.default_rng(seed))
        assert set(np.unique(image)) <= {0, 1}
        np.testing.assert_array_equal(image[0], 1 - image[1])
        np.testing.assert_allclose(label[0], [1 - image[0].mean(), image[0].mean()], atol=1e-6)
        np.testing.assert_allclose(label[1], label[0][::-1], atol=1e-6)
        exchanged = np.argwhere(image[0, :, :, 0] == 1)
        if len(exchanged):  # one full box
            sides = exchanged.max(axis=0) - exchanged.min(axis=0) + 1
            assert sides.prod() == len(exchanged)
            assert sides[0] <= round(np.sqrt(1 - kept) * 12)
            assert sides[1] <= round(np.sqrt(1 - kept) * 10)
        if kept == 1:
            assert not len(exchanged)


def mix(size, seeds, **alphas):
    image, label = batch(size)
    mixing.mix_pairs(image, label, pair_seeds=seeds, **alphas)
    return image, label


def test_pairs_do_not_depend_on_the_batch_around_them():
    alphas = {"mixup_alpha": 0.5, "cutmix_alpha": 0.5}
    image, label = mix(6, [1, 2, 3], **alphas)
    original, _ = batch(6)
    for pair, seed in enumerate([1, 2, 3]):
        both = slice(2 * pair, 2 * pair + 2)
        alone, alone_label = original[both].copy(), np.eye(6, dtype=np.float32)[both]
        mixing.mix_pairs(alone, alone_label, pair_seeds=[seed], **alphas)
        np.testing.assert_array_equal(alone, image[both])
        np.testing.assert_array_equal(alone_label, label[both])


def used_cutmix(seed, **alphas):
    image = np.stack([np.zeros((8, 8, 1)), np.ones((8, 8, 1))]).astype(np.float32)
    mixing.mix_pairs(image, np.eye(2, dtype=np.float32), pair_seeds=[seed], **alphas)
    return set(np.unique(image)) <= {0.0, 1.0}


def test_each_method_alone_and_both_in_equal_parts():
    seeds = range(400)
    assert all(used_cutmix(s, mixup_alpha=0.0, cutmix_alpha=1.0) for s in seeds)
    assert not any(used_cutmix(s, mixup_alpha=1.0, cutmix_alpha=0.0) for s in seeds)
    share = np.mean([used_cutmix(s, mixup_alpha=1.0, cutmix_alpha=1.0) for s in seeds])
    assert 0.42 < share < 0.58


def test_weights_follow_the_beta_distribution():
    weights = [mix(2, [seed], mixup_alpha=2.0, cutmix_alpha=0.0)[1][0, 0] for seed in range(2000)]
    assert np.mean(weights) == pytest.approx(0.5, abs=0.02)
    assert np.var(weights) == pytest.approx(1 / 20, abs=0.005)  # of Beta(2, 2)


def test_labels_remain_distributions():
    _, label = mix(6, [5, 6, 7], mixup_alpha=0.2, cutmix_alpha=0.2)
    np.testing.assert_allclose(label.sum(axis=1), 1, atol=1e-6)
    assert (label >= 0).all()
