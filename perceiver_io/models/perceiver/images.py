"""Input adapters of images, chosen by a config section."""

from collections.abc import Mapping
from typing import Any

from perceiver_io.config.construct import construct, lookup
from perceiver_io.errors import UserError
from perceiver_io.models.perceiver.encoder import InputAdapter
from perceiver_io.models.perceiver.inputs import (
    ArrayTokens,
    ConvStem,
    LinearPatches,
    PermutedTokens,
    PointwiseConv,
    RawValues,
)
from perceiver_io.models.perceiver.positions import (
    FourierPositions,
    LearnedPositions,
    ProjectedPositions,
)

Size = tuple[int, int]


def image_inputs(section: Mapping[str, Any]) -> InputAdapter:
    """The input adapter of images that a section's `name` chooses."""
    return construct(lookup(IMAGE_INPUTS, section, "model.inputs"), section, "model.inputs")


def fourier_pixels(image_size: Size, num_bands: int, resolution: Size | None = None) -> ArrayTokens:
    """Each pixel with its Fourier position.

    `resolution`, where it is given, sets the frequencies instead of the image's size: that of the
    images that weights were trained on.
    """
    return ArrayTokens(RawValues(), FourierPositions(num_bands, resolution or image_size))


def learned_pixels(image_size: Size, channels: int) -> ArrayTokens:
    """Each pixel through a 1x1 convolution, with a learned and projected position as wide."""
    positions = LearnedPositions(image_size[0] * image_size[1], channels)
    return ArrayTokens(PointwiseConv(channels), ProjectedPositions(positions, channels))


def conv_features(
    image_size: Size,
    channels: int,
    num_bands: int,
    pytorch_padding: bool = False,
    resolution: Size | None = None,
) -> ArrayTokens:
    """A convolutional stem at a quarter of the resolution, with Fourier positions.

    `resolution` as in `fourier_pixels`.

    Raises UserError for images of which the stem leaves a single position, or none.
    """
    least = 5 if pytorch_padding else 4
    if min(image_size) < least:
        raise UserError(
            f"image_size={image_size} is too small for the convolutional stem, which shrinks "
            f"images four times: use at least {least}x{least} pixels, or the inputs "
            "'fourier_pixels'."
        )
    height, width = resolution or image_size
    grid = (-(-height // 4), -(-width // 4))
    return ArrayTokens(ConvStem(channels, pytorch_padding), FourierPositions(num_bands, grid))


def linear_patches(
    image_size: Size, patch_size: Size, channels: int, num_bands: int
) -> ArrayTokens:
    """Patches through a linear layer, with Fourier positions. UserError where they do not fit."""
    for pixels, patch in zip(image_size, patch_size, strict=True):
        if pixels % patch:
            raise UserError(
                f"image_size={image_size} does not divide into patches of {patch_size} pixels: "
                "set inputs.patch_size to divisors of both sides, or change the image size."
            )
    grid = (image_size[0] // patch_size[0], image_size[1] // patch_size[1])
    return ArrayTokens(LinearPatches(patch_size, channels), FourierPositions(num_bands, grid))


def permuted(inputs: Mapping[str, Any], seed: int) -> PermutedTokens:
    """Other inputs with their tokens in one fixed random order."""
    return PermutedTokens(image_inputs(inputs), seed)


IMAGE_INPUTS = {
    "fourier_pixels": fourier_pixels,
    "learned_pixels": learned_pixels,
    "conv_features": conv_features,
    "linear_patches": linear_patches,
    "permuted": permuted,
}
