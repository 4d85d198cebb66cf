"""Builders: from a config section to a model. The only place where config meets modules.

A builder is a short function whose arguments are the keys of `config.model`; the table at the end
names them all. `build` turns the one that `config.model.name` picks into pure functions.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import haiku as hk
import jax.numpy as jnp

from perceiver_io.construct import construct, lookup
from perceiver_io.errors import UserError
from perceiver_io.models.attention import AttentionForm
from perceiver_io.models.convnet import ConvNet
from perceiver_io.models.encoder import Encoder, InterleavedEncoder
from perceiver_io.models.inputs import (
    ArrayTokens,
    ConvStem,
    LinearPatches,
    PermutedTokens,
    PointwiseConv,
    RawValues,
)
from perceiver_io.models.outputs import AveragePooledLogits, ClassLogits
from perceiver_io.models.perceiver import Computation, Decoder, Perceiver, PerceiverIO
from perceiver_io.models.positions import FourierPositions, LearnedPositions, ProjectedPositions
from perceiver_io.models.queries import LearnedQueries

Section = Mapping[str, Any]
Size = tuple[int, int]


class Model(NamedTuple):
    """A model as pure functions that share parameters.

    init(rng, **inputs) -> params, state. The others take (params, state, rng, ...) first and
    return (result, new state); their keywords are those of `PerceiverIO` or `Perceiver`.
    """

    init: Callable
    apply: Callable
    encode: Callable
    decode: Callable


def build(config: Section) -> Model:
    """The model of `config.model`: `name` picks the builder, the rest are its arguments.

    Raises UserError for a wrong name here, and for a wrong argument at `init`, since modules are
    constructed when they are traced.
    """
    builder = lookup(BUILDERS, config, "model")

    def transformed():
        model = construct(builder, config, "model")
        return model, (model, model.encode, model.decode)

    init, functions = hk.multi_transform_with_state(transformed)
    return Model(lambda rng, **inputs: init(rng, **inputs, is_training=True), *functions)


def perceiver_io_classifier(
    num_classes: int,
    inputs: Section,
    encoder: Section,
    decoder: Section,
    attention: Section,
    compute_dtype: str,
) -> PerceiverIO:
    """Perceiver IO that classifies images with one learned query as wide as the latents."""
    return PerceiverIO(
        inputs=_image_inputs(inputs),
        encoder=construct(Encoder, encoder, "model.encoder"),
        queries=LearnedQueries(1, encoder["latent_dim"]),
        decoder=construct(Decoder, decoder, "model.decoder"),
        outputs=ClassLogits(num_classes),
        computation=_computation(attention, compute_dtype),
    )


def perceiver_classifier(
    num_classes: int, inputs: Section, encoder: Section, attention: Section, compute_dtype: str
) -> Perceiver:
    """The original Perceiver: interleaved cross-attends, then averaged latents."""
    return Perceiver(
        inputs=_image_inputs(inputs),
        encoder=construct(InterleavedEncoder, encoder, "model.encoder"),
        head=AveragePooledLogits(num_classes),
        computation=_computation(attention, compute_dtype),
    )


def fourier_pixels(image_size: Size, num_bands: int) -> ArrayTokens:
    """Each pixel with its Fourier position."""
    return ArrayTokens(RawValues(), FourierPositions(num_bands, image_size))


def learned_pixels(image_size: Size, channels: int) -> ArrayTokens:
    """Each pixel through a 1x1 convolution, with a learned and projected position as wide."""
    positions = LearnedPositions(image_size[0] * image_size[1], channels)
    return ArrayTokens(PointwiseConv(channels), ProjectedPositions(positions, channels))


def conv_features(image_size: Size, channels: int, num_bands: int) -> ArrayTokens:
    """A convolutional stem at a quarter of the resolution, with Fourier positions.

    Raises UserError for images under 4x4 pixels, of which the stem leaves a single position.
    """
    if min(image_size) < 4:
        raise UserError(
            f"image_size={image_size} is too small for the convolutional stem, which shrinks "
            "images four times: use at least 4x4 pixels, or the inputs 'fourier_pixels'."
        )
    grid = (-(-image_size[0] // 4), -(-image_size[1] // 4))
    return ArrayTokens(ConvStem(channels), FourierPositions(num_bands, grid))


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


def permuted(inputs: Section, seed: int) -> PermutedTokens:
    """Other inputs with their tokens in one fixed random order."""
    return PermutedTokens(_image_inputs(inputs), seed)


def _image_inputs(section: Section) -> Callable:
    return construct(lookup(IMAGE_INPUTS, section, "model.inputs"), section, "model.inputs")


def _computation(attention: Section, compute_dtype: str) -> Computation:
    return Computation(
        construct(AttentionForm, attention, "model.attention"),
        lookup(DTYPES, {"name": compute_dtype}, "model.compute_dtype"),
    )


DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}

IMAGE_INPUTS = {
    "fourier_pixels": fourier_pixels,
    "learned_pixels": learned_pixels,
    "conv_features": conv_features,
    "linear_patches": linear_patches,
    "permuted": permuted,
}

BUILDERS = {
    "perceiver_io_classifier": perceiver_io_classifier,
    "perceiver_classifier": perceiver_classifier,
    "convnet_classifier": ConvNet,
}
