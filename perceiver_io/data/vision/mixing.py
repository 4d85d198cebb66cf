"""MixUp and CutMix: neighbours of a batch exchange a part of their content and of their labels.

Examples 0 and 1, 2 and 3 ... of a batch form pairs. What is random is drawn here, with the example;
the pairs are mixed on the device, by `perceiver_io.tasks.image_classification.mixing`, with what
their first example drew. So the result does not depend on how a batch is spread.
"""

from typing import Any

import numpy as np

# An example that keeps its content.
UNMIXED: dict[str, Any] = {"mixup_weight": np.float32(1), "cutmix_box": np.zeros(4, np.int32)}
SPEC = {name: (value.shape, value.dtype) for name, value in UNMIXED.items()}


def draw(
    rng: np.random.Generator, size: tuple[int, int], *, mixup_alpha: float, cutmix_alpha: float
) -> dict[str, np.ndarray]:
    """How a pair is mixed: by MixUp or CutMix with equal probability.

    Where one of the alphas is 0 the other method is used.

    Args:
        rng: all randomness comes from it.
        size: (height, width) of the images.
        mixup_alpha: MixUp weights are Beta(alpha, alpha) distributed (Zhang et al. 2018,
            arXiv:1710.09412).
        cutmix_alpha: CutMix kept areas are Beta(alpha, alpha) distributed before clipping (Yun et
            al. 2019, arXiv:1905.04899).

    Returns:
        `mixup_weight`, the weight of an example's own content; `cutmix_box`, the top, bottom, left
        and right of the box whose content is exchanged, with the image's proportions before it is
        clipped, and a uniform centre. Of the method that is not used they are those of `UNMIXED`.
    """
    if cutmix_alpha == 0 or (mixup_alpha > 0 and rng.random() < 0.5):
        return UNMIXED | {"mixup_weight": np.float32(rng.beta(mixup_alpha, mixup_alpha))}
    share = np.sqrt(1 - rng.beta(cutmix_alpha, cutmix_alpha))
    box = [edge for length in size for edge in _interval(length, share, rng)]
    return UNMIXED | {"cutmix_box": np.array(box, np.int32)}


def _interval(length: int, share: float, rng: np.random.Generator) -> tuple[int, int]:
    centre, size = int(rng.integers(length)), round(share * length)
    start = centre - size // 2
    return max(start, 0), min(start + size, length)
