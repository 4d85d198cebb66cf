"""Pairs of frames with the optical flow between them: how they are prepared.

Frames are uint8 until the model reads them. A source gives whole pairs; training cuts and
augments them, evaluation takes their middle. Whole images are measured, tile
by tile, from the same pairs.
"""

import dataclasses
from typing import Annotated, ClassVar

import numpy as np

from perceiver_io.config.annotations import INPUT_SIZE, Natural, Size
from perceiver_io.data.flow.augmentation import FlowAugmentation
from perceiver_io.data.flow.pair import FlowPair, cut, padded, random_cut, reversed_pair
from perceiver_io.data.pipeline.dataset import Example, Numbered, Preparation, Spec


@dataclasses.dataclass(frozen=True, kw_only=True)
class FlowPreparation(Preparation):
    """FlowPairs cut to one size.

    The curriculum is that of Perceiver IO (section 4.2 and its appendix): a first phase without
    augmentation, in which pairs are also fed reversed, then one with augmentation that grows.

    Attributes:
        image_size: (height, width) of the frames of a batch, in pixels.
        plain_examples: training examples, counted over all epochs and processes, of the first
            phase. Those are cut out at random and reversed half of the time.
        growth_examples: training examples of the second phase until its augmentation, which grows
            evenly, is in full force.
        augmentation: that of the second phase, in full force; None: there is no second phase.
    """

    image_size: Annotated[Size, INPUT_SIZE]
    plain_examples: Natural = 0
    growth_examples: Natural = 0
    augmentation: FlowAugmentation | None = None

    numbered: ClassVar[bool] = True

    def training_example(self, raw: Numbered, rng: np.random.Generator) -> Example:
        """A cut-out of a pair in the first phase, an augmented one in the second."""
        position, pair = raw
        if self.augmentation is not None and position >= self.plain_examples:
            # What an example leaves out need not be transformed.
            lean = pair._replace(backward=None, occluded=None)
            augment = self.augmentation.weakened(self._severity(position))
            return _example(augment(lean, self.image_size, rng))
        if rng.random() < 0.5:
            pair = reversed_pair(pair)
        return _example(random_cut(pair, self.image_size, rng))

    def _severity(self, position: int) -> float:
        """Of the augmentation, above 0 for the first example of the second phase."""
        return min((position + 1 - self.plain_examples) / max(self.growth_examples, 1), 1.0)

    def evaluation_example(self, raw: FlowPair, rng: np.random.Generator) -> Example:
        """The middle of a pair; smaller pairs are continued, with flow that is not valid."""
        del rng
        pair = padded(raw, self.image_size)
        top, left = (
            (whole - side) // 2 for whole, side in zip(pair.size, self.image_size, strict=True)
        )
        return _example(cut(pair, (top, left), self.image_size))

    def example_spec(self) -> Spec:
        """`frames` [2, H, W, 3], `flow` [H, W, 2] in pixels, `flow_valid` [H, W]."""
        return {
            "frames": ((2, *self.image_size, 3), np.dtype(np.uint8)),
            "flow": ((*self.image_size, 2), np.dtype(np.float32)),
            "flow_valid": (self.image_size, np.dtype(bool)),
        }


def _example(pair: FlowPair) -> Example:
    return {
        "frames": np.stack([pair.first, pair.second]),
        "flow": pair.flow.flow,
        "flow_valid": pair.flow.valid,
    }
