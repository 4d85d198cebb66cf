"""Augmentation of pairs of frames; the flow is transformed exactly with them.

The augmentations are those with which RAFT (Teed and Deng 2020, arXiv:2003.12039) and PWC-Net were
trained on AutoFlow (Sun et al. 2021, arXiv:2104.14544): random scaling, stretching, rotation, flips
and crops of the pair, a smaller additional motion of the second frame alone (Dosovitskiy et al.
2015, arXiv:1504.06852), colour jitter, noise, and erased boxes.
"""

import dataclasses
import math
from typing import Annotated

import numpy as np

from perceiver_io.config.annotations import ASCENDING, Probability, within
from perceiver_io.data.flow.geometry import Map, affine, random_part, rotation, warp_pair
from perceiver_io.data.flow.pair import FlowPair
from perceiver_io.data.flow.photometric import Frame, add_noise, change_colors, erase, random_box
from perceiver_io.errors import UserError

# Not scaled by the severity: the range of scales also limits how much small frames are enlarged,
# and the others have no notion of strength.
_FIXED = {"log2_scale", "horizontal_flip", "vertical_flip", "eraser_boxes", "eraser_sides"}

Log2 = Annotated[float, within(-3, 3)]
Side = Annotated[int, within(1, 10_000)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class FlowAugmentation:
    """A random augmentation of a pair of frames and its flow. All distributions are uniform.

    Attributes:
        spatial_probability: probability of scaling, stretching, rotation and relative motion, all
            together.
        log2_scale: least and greatest base-2 logarithm of the scale. Frames too small for the crop
            are enlarged as needed, up to the greatest scale.
        log2_stretch: greatest absolute logarithm of an additional scale that is drawn for each
            axis.
        rotation: greatest angle in degrees, in either direction.
        relative_log2_scale: greatest absolute logarithm of an additional scale of the second frame
            alone.
        relative_rotation: greatest additional rotation of the second frame alone, in degrees, in
            either direction.
        relative_translation: greatest additional translation of the second frame alone, along each
            axis in either direction, as a fraction of the crop's width or height.
        horizontal_flip: probability of swapping left and right.
        vertical_flip: probability of swapping top and bottom.
        brightness: greatest deviation of the factor from 1.
        contrast: greatest deviation of the factor from 1.
        saturation: greatest deviation of the factor from 1.
        hue: greatest hue shift in either direction; 1 would be a full turn.
        log2_gamma: greatest absolute logarithm of the exponent.
        asymmetric_probability: probability that the colours of the two frames change differently.
        noise: greatest standard deviation, where 1 is the range from black to white.
        eraser_probability: probability that boxes of the second frame are filled with its mean
            colour.
        eraser_boxes: greatest number of such boxes.
        eraser_sides: shortest and longest side of such a box, in pixels.
    """

    spatial_probability: Probability
    log2_scale: Annotated[tuple[Log2, Log2], ASCENDING]
    log2_stretch: Annotated[float, within(0, 2)]
    rotation: Annotated[float, within(0, 180)]
    relative_log2_scale: Annotated[float, within(0, 1)]
    relative_rotation: Annotated[float, within(0, 90)]
    relative_translation: Annotated[float, within(0, 1)]
    horizontal_flip: Probability
    vertical_flip: Probability
    brightness: Annotated[float, within(0, 1)]
    contrast: Annotated[float, within(0, 1)]
    saturation: Annotated[float, within(0, 1)]
    hue: Annotated[float, within(0, 0.5)]
    log2_gamma: Annotated[float, within(0, 2)]
    asymmetric_probability: Probability
    noise: Annotated[float, within(0, 1)]
    eraser_probability: Probability
    eraser_boxes: Annotated[int, within(0, 100)]
    eraser_sides: Annotated[tuple[Side, Side], ASCENDING]

    def weakened(self, severity: float) -> "FlowAugmentation":
        """A copy with probabilities and greatest changes multiplied by `severity`, from 0 to 1.

        Flips, the range of scales, and the number and sizes of erased boxes stay the same.
        """
        names = {field.name for field in dataclasses.fields(self)} - _FIXED
        return dataclasses.replace(self, **{name: severity * getattr(self, name) for name in names})

    def __call__(self, pair: FlowPair, size: tuple[int, int], rng: np.random.Generator) -> FlowPair:
        """An augmented crop of `size` = (height, width).

        Raises UserError for frames that are too small even at the greatest scale.
        """
        pair = self._moved(pair, size, rng)
        first, second = self._recolored([pair.first, pair.second], rng)
        pair = pair._replace(first=first, second=second)
        if rng.random() < self.eraser_probability and self.eraser_boxes:
            boxes = rng.integers(1, self.eraser_boxes + 1)
            pair = erase(pair, [random_box(size, self.eraser_sides, rng) for _ in range(boxes)])
        return pair

    def _moved(self, pair: FlowPair, size: tuple[int, int], rng: np.random.Generator) -> FlowPair:
        greatest = 2 ** max(self.log2_scale[1], 0) if self.spatial_probability else 1
        _check_size(pair, size, greatest)
        scale, linear, relative = 1.0, np.eye(2), np.eye(3)
        if rng.random() < self.spatial_probability:
            scale = 2 ** rng.uniform(*self.log2_scale)
            stretch = 2 ** _either_way(self.log2_stretch, rng, 2)
            linear = rotation(_either_way(self.rotation, rng)) @ np.diag(scale * stretch)
            relative = self._relative(size, rng)
        flips = rng.random(2) < (self.horizontal_flip, self.vertical_flip)
        linear = linear @ np.diag(np.where(flips, -1, 1))
        part = random_part(
            linear,
            relative,
            whole=pair.size,
            size=size,
            max_enlargement=max(greatest / scale, 1),
            rng=rng,
        )
        return warp_pair(pair, part)

    def _relative(self, size: tuple[int, int], rng: np.random.Generator) -> Map:
        scale = 2 ** _either_way(self.relative_log2_scale, rng)
        turn = rotation(_either_way(self.relative_rotation, rng))
        shift = _either_way(self.relative_translation, rng, 2) * size[::-1]
        return affine(scale * turn, shift)

    def _recolored(self, frames: list[Frame], rng: np.random.Generator) -> list[Frame]:
        together = rng.random() >= self.asymmetric_probability
        groups = [frames] if together else [[frame] for frame in frames]
        frames = [frame for group in groups for frame in change_colors(group, **self._colors(rng))]
        if not self.noise:
            return frames
        return [add_noise(frame, 255 * rng.uniform(0, self.noise), rng) for frame in frames]

    def _colors(self, rng: np.random.Generator) -> dict[str, float]:
        return {
            "brightness": 1 + _either_way(self.brightness, rng),
            "contrast": 1 + _either_way(self.contrast, rng),
            "saturation": 1 + _either_way(self.saturation, rng),
            "hue": _either_way(self.hue, rng),
            "gamma": 2 ** _either_way(self.log2_gamma, rng),
        }


def _either_way(
    greatest: float, rng: np.random.Generator, count: int | None = None
) -> float | np.ndarray:
    """Random numbers from -greatest to greatest."""
    return rng.uniform(-greatest, greatest, count)


def _check_size(pair: FlowPair, size: tuple[int, int], greatest: float) -> None:
    """Raises UserError where a crop of `size` is larger than the frames at the greatest scale."""
    needed = [math.ceil(round((side - 1) / greatest, 6)) + 1 for side in size]
    if any(have < need for have, need in zip(pair.size, needed, strict=True)):
        raise UserError(
            f"{pair.name} has {pair.size[0]}x{pair.size[1]} pixels; for crops of {size[0]}x"
            f"{size[1]} at scales up to {greatest:.3g} it needs {needed[0]}x{needed[1]}: leave it "
            "out, reduce config.data.image_size and the model's image size with it, or raise the "
            "upper limit of config.data.augmentation.log2_scale."
        )
