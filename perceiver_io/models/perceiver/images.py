"""Input adapters for images, built from a config section."""

from typing import Annotated

import jax
import jax.numpy as jnp

from perceiver_io.config.annotations import INPUT_SIZE, UNSEEN, Choice, SameAs, Seed, Size, Width
from perceiver_io.errors import UserError
from perceiver_io.models.perceiver.inputs import (
    ArrayTokens,
    ConvStem,
    Inputs,
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

ImageSize = Annotated[Size, INPUT_SIZE]
# The size also sets the frequencies of Fourier features, unless a resolution is given.
FourierSize = Annotated[Size, INPUT_SIZE, UNSEEN]
Resolution = Annotated[Size | None, UNSEEN, SameAs("image_size")]
ImageChannels = Annotated[Width, INPUT_SIZE]


def image_spec(image_size: Size, channels: int) -> jax.ShapeDtypeStruct:
    """One image [1, H, W, C]."""
    return jax.ShapeDtypeStruct((1, *image_size, channels), jnp.float32)


def fourier_pixels(
    image_size: ImageSize,
    num_bands: Width,
    resolution: Resolution = None,
    image_channels: ImageChannels = 3,
) -> Inputs:
    """Raw pixels with Fourier positions.

    `resolution` sets the frequencies in place of the image size: give the size of the images that
    the weights were trained on. `image_channels` is 3 for colour, 1 for greyscale.
    """
    positions = FourierPositions(num_bands, resolution or image_size)
    return Inputs(ArrayTokens(RawValues(), positions), image_spec(image_size, image_channels))


def learned_pixels(
    image_size: ImageSize, channels: Width, image_channels: ImageChannels = 3
) -> Inputs:
    """Pixels through a 1x1 convolution, with learned positions projected to the same width."""
    positions = ProjectedPositions(LearnedPositions(image_size, channels), channels)
    adapter = ArrayTokens(PointwiseConv(channels), positions)
    return Inputs(adapter, image_spec(image_size, image_channels))


def raw_learned_pixels(
    image_size: ImageSize, position_dim: Width, image_channels: ImageChannels = 3
) -> Inputs:
    """Raw pixels with learned positions of their own width (Perceiver, section 4.1).

    Positions begin with a standard deviation of 1, which worked best there (appendix B).
    """
    adapter = ArrayTokens(RawValues(), LearnedPositions(image_size, position_dim, scale=1.0))
    return Inputs(adapter, image_spec(image_size, image_channels))


def conv_features(
    image_size: ImageSize,
    channels: Width,
    num_bands: Width,
    pytorch_padding: Annotated[bool, UNSEEN] = False,
    resolution: Resolution = None,
    image_channels: ImageChannels = 3,
) -> Inputs:
    """Features of a convolutional stem at a quarter of the resolution, with Fourier positions.

    `resolution` and `image_channels` are as in `fourier_pixels`.

    Raises UserError for images so small that the stem leaves a single position or none.
    """
    least = 5 if pytorch_padding else 4
    if min(image_size) < least:
        raise UserError(
            f"image_size={image_size} is too small for the convolutional stem, which reduces "
            f"images by a factor of 4: use at least {least}x{least} pixels, or the inputs "
            "'fourier_pixels'."
        )
    height, width = resolution or image_size
    positions = FourierPositions(num_bands, (-(-height // 4), -(-width // 4)))
    adapter = ArrayTokens(ConvStem(channels, pytorch_padding), positions)
    return Inputs(adapter, image_spec(image_size, image_channels))


def linear_patches(
    image_size: FourierSize,
    patch_size: Annotated[Size, UNSEEN],
    channels: Width,
    num_bands: Width,
    image_channels: ImageChannels = 3,
) -> Inputs:
    """Linear patch embeddings with Fourier positions.

    Raises UserError if the image size is not a multiple of the patch size.
    """
    for pixels, patch in zip(image_size, patch_size, strict=True):
        if pixels % patch:
            raise UserError(
                f"image_size={image_size} does not divide into patches of {patch_size} pixels: "
                "set inputs.patch_size to divisors of its sides, or change the image size."
            )
    grid = (image_size[0] // patch_size[0], image_size[1] // patch_size[1])
    adapter = ArrayTokens(LinearPatches(patch_size, channels), FourierPositions(num_bands, grid))
    return Inputs(adapter, image_spec(image_size, image_channels))


IN_ORDER = {
    "fourier_pixels": fourier_pixels,
    "learned_pixels": learned_pixels,
    "raw_learned_pixels": raw_learned_pixels,
    "conv_features": conv_features,
    "linear_patches": linear_patches,
}


def permuted(inputs: Annotated[Inputs, Choice(IN_ORDER)], seed: Seed) -> Inputs:
    """Other inputs, with their tokens in a fixed random order."""
    return Inputs(PermutedTokens(inputs.adapter, seed), inputs.spec)


IMAGE_INPUTS = IN_ORDER | {"permuted": permuted}
