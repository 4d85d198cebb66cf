"""Preparation of pairs of frames with optical flow.

Frames are uint8 until the model reads them. A source gives whole pairs; training crops and augments
them, evaluation crops their centre. Evaluation of whole images, tile by tile, reads the same pairs.
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
    """FlowPairs cropped to one size.

    The curriculum is that of Perceiver IO (section 4.2 and its appendix): a first phase without
    augmentation, except that pairs may be reversed, then a phase with increasing augmentation.

    Attributes:
        image_size: (height, width) of the frames of a batch, in pixels.
        plain_examples: number of training examples in the first phase, counted over all epochs and
            processes. They are cropped at random and reversed half of the time.
        growth_examples: number of training examples in the second phase until augmentation, which
            increases linearly, reaches full strength.
        augmentation: of the second phase at full strength; None: there is no second phase.
    """

    image_size: Annotated[Size, INPUT_SIZE]
    plain_examples: Natural = 0
    growth_examples: Natural = 0
    augmentation: FlowAugmentation | None = None

    numbered: ClassVar[bool] = True

    def training_example(self, raw: Numbered, rng: np.random.Generator) -> Example:
        """A random crop of a pair in the first phase, an augmented one in the second."""
        position, pair = raw
        if self.augmentation is not None and position >= self.plain_examples:
            # Fields that are not part of an example need not be transformed.
            lean = pair._replace(backward=None, occluded=None)
            augment = self.augmentation.weakened(self._severity(position))
            return _example(augment(lean, self.image_size, rng))
        if rng.random() < 0.5:
            pair = reversed_pair(pair)
        return _example(random_cut(pair, self.image_size, rng))

    def _severity(self, position: int) -> float:
        """Strength of the augmentation; above 0 from the first example of the second phase on."""
        return min((position + 1 - self.plain_examples) / max(self.growth_examples, 1), 1.0)

    def evaluation_example(self, raw: FlowPair, rng: np.random.Generator) -> Example:
        """The centre crop of a pair; smaller pairs are padded, with invalid flow in the padding."""
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
