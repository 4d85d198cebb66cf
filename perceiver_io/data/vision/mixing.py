"""MixUp and CutMix: adjacent examples of a batch exchange parts of their content and labels.

Examples 0 and 1, 2 and 3 ... of a batch form pairs. The random parameters are drawn here, with each
example; `perceiver_io.tasks.image_classification.mixing` mixes the pairs on the device, with the
parameters of their first example. So the result does not depend on how a batch is sharded.
"""

from typing import Any

import numpy as np

# Parameters that leave an example unmixed.
UNMIXED: dict[str, Any] = {"mixup_weight": np.float32(1), "cutmix_box": np.zeros(4, np.int32)}
SPEC = {name: (value.shape, value.dtype) for name, value in UNMIXED.items()}


def draw(
    rng: np.random.Generator, size: tuple[int, int], *, mixup_alpha: float, cutmix_alpha: float
) -> dict[str, np.ndarray]:
    """Draws how a pair is mixed: by MixUp or CutMix, with equal probability.

    If one of the alphas is 0, the other method is used.

    Args:
        rng: all randomness comes from it.
        size: (height, width) of the images.
        mixup_alpha: MixUp weights are Beta(alpha, alpha) distributed (Zhang et al. 2018,
            arXiv:1710.09412).
        cutmix_alpha: the areas that CutMix keeps are Beta(alpha, alpha) distributed before clipping
            (Yun et al. 2019, arXiv:1905.04899).

    Returns:
        `mixup_weight`, the weight of an example's own content; `cutmix_box`, the top, bottom, left
        and right of the box whose content is exchanged: its centre is uniform, and before clipping
        it has the image's aspect ratio. The method that is not used has the value of `UNMIXED`.
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
