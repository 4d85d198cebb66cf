"""Augmentation of pairs of frames; flow is transformed exactly with them."""

import dataclasses

import numpy as np

from perceiver_io.data.flow_pair import FlowPair, random_cut


@dataclasses.dataclass(frozen=True, kw_only=True)
class FlowAugmentation:
    """TODO settings."""

    def __call__(self, pair: FlowPair, size: tuple[int, int], rng: np.random.Generator) -> FlowPair:
        """An augmented part of `size` = (height, width)."""
        return random_cut(pair, size, rng)
