"""MixUp and CutMix: neighbours of a batch exchange a part of their content and of their labels.

Examples 0 and 1, 2 and 3 ... of a batch form pairs. Each pair draws its own mixing weight, and each
of the two receives from the other. A pair's generator comes with its first example, so that the
result does not depend on the batch size nor on the number of shards.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float


def mix_pairs(
    image: Float[np.ndarray, "B H W C"],
    label: Float[np.ndarray, "B K"],
    *,
    mixup_alpha: float,
    cutmix_alpha: float,
    pair_seeds: Sequence[int],
) -> None:
    """Mixes every pair of a batch in place, by MixUp or CutMix with equal probability.

    Where one of the alphas is 0 the other method is used for all pairs.

    Args:
        image: batch of an even number of images.
        label: their soft labels.
        mixup_alpha: MixUp weights are Beta(alpha, alpha) distributed.
        cutmix_alpha: CutMix kept areas are Beta(alpha, alpha) distributed before clipping.
        pair_seeds: one for each of the B / 2 pairs.
    """
    for pair, seed in enumerate(pair_seeds):
        both = slice(2 * pair, 2 * pair + 2)
        rng = np.random.default_rng(seed)
        if cutmix_alpha == 0 or (mixup_alpha > 0 and rng.random() < 0.5):
            mixup(image[both], label[both], weight=rng.beta(mixup_alpha, mixup_alpha))
        else:
            cutmix(image[both], label[both], kept=rng.beta(cutmix_alpha, cutmix_alpha), rng=rng)


def mixup(
    image: Float[np.ndarray, "2 H W C"], label: Float[np.ndarray, "2 K"], *, weight: float
) -> None:
    """Each of two examples becomes weight * itself + (1 - weight) * the other, in place.

    Zhang et al. 2018, arXiv:1710.09412.
    """
    _blend(image, weight)
    _blend(label, weight)


def cutmix(
    image: Float[np.ndarray, "2 H W C"],
    label: Float[np.ndarray, "2 K"],
    *,
    kept: float,
    rng: np.random.Generator,
) -> None:
    """Two examples exchange the pixels of one box, and labels by its exact share of the area.

    The box has the image's proportions and the area 1 - kept before it is clipped to the image; its
    centre is uniform. In place. Yun et al. 2019, arXiv:1905.04899.
    """
    height, width = image.shape[1:3]
    rows = _interval(height, np.sqrt(1 - kept), rng)
    columns = _interval(width, np.sqrt(1 - kept), rng)
    image[:, rows, columns] = image[::-1, rows, columns].copy()
    area = (rows.stop - rows.start) * (columns.stop - columns.start)
    _blend(label, 1 - area / (height * width))


def _interval(length: int, share: float, rng: np.random.Generator) -> slice:
    centre, size = int(rng.integers(length)), round(share * length)
    start = centre - size // 2
    return slice(max(start, 0), min(start + size, length))


def _blend(pair: np.ndarray, weight: float) -> None:
    # first + (1 - w) * d and second - (1 - w) * d, with one temporary array.
    difference = pair[1] - pair[0]
    difference *= 1 - weight
    pair[0] += difference
    pair[1] -= difference
