"""Models of optical flow: Perceiver IO, section 4.2."""

from collections.abc import Callable
from typing import Annotated

import jax
import jax.numpy as jnp

from perceiver_io.config.annotations import Side, Size, Width, within
from perceiver_io.errors import UserError
from perceiver_io.models.builders.blueprint import Blueprint, perceiver_io
from perceiver_io.models.perceiver.images import FourierSize
from perceiver_io.models.perceiver.inputs import (
    ArrayTokens,
    ConvStem,
    FramePairs,
    Inputs,
    MatchedFrames,
    SeparateFrames,
    StackedFrames,
)
from perceiver_io.models.perceiver.outputs import FlowField, UpsampledFlow
from perceiver_io.models.perceiver.positions import FourierPositions
from perceiver_io.models.perceiver.queries import FirstInputQueries, InputQueries
from perceiver_io.models.settings import AttentionForm, DecoderSettings, EncoderSettings


def perceiver_io_flow(
    image_size: FourierSize,
    neighbourhood: Side,
    channels: Width,
    num_bands: Width,
    encoder: EncoderSettings,
    decoder: DecoderSettings = DecoderSettings(),
    attention: AttentionForm = AttentionForm(),
) -> Blueprint:
    """Perceiver IO for optical flow (Perceiver IO, section 4.2), frames concatenated.

    Every pixel is one input, and its features are also its query.
    """
    positions = FourierPositions(num_bands, image_size)
    return perceiver_io(
        _frame_pairs(FramePairs(neighbourhood, channels), positions, image_size),
        InputQueries(),
        FlowField(image_size),
        (encoder, decoder, attention),
    )


def perceiver_io_flow_separate(
    image_size: FourierSize,
    neighbourhood: Side,
    channels: Width,
    num_bands: Width,
    encoder: EncoderSettings,
    decoder: DecoderSettings = DecoderSettings(),
    attention: AttentionForm = AttentionForm(),
) -> Blueprint:
    """Perceiver IO for optical flow (Perceiver IO, section 4.2), frames separate.

    Every pixel of each frame is one input, with a position in time and space; the inputs of the
    first frame are also the queries.
    """
    positions = FourierPositions(num_bands, (2, *image_size))
    return perceiver_io(
        _frame_pairs(SeparateFrames(neighbourhood, channels), positions, image_size),
        FirstInputQueries(share=2),
        FlowField(image_size),
        (encoder, decoder, attention),
    )


def perceiver_io_flow_conv(
    image_size: FourierSize,
    channels: Width,
    num_bands: Width,
    encoder: EncoderSettings,
    decoder: DecoderSettings = DecoderSettings(),
    attention: AttentionForm = AttentionForm(),
) -> Blueprint:
    """Perceiver IO for optical flow with a convolutional stem (Perceiver IO, section 4.2).

    The stem's features of both frames together, at a quarter of the resolution, are inputs and
    queries; the flow is upsampled as in RAFT. Raises UserError for sizes not divisible by 4.
    """
    return _upsampled_flow(
        StackedFrames(ConvStem(channels)), image_size, num_bands, (encoder, decoder, attention)
    )


def perceiver_io_flow_matched(
    image_size: FourierSize,
    channels: Width,
    radius: Annotated[int, within(0, 64)],
    num_blocks: Annotated[int, within(0, 1000)],
    num_bands: Width,
    encoder: EncoderSettings,
    decoder: DecoderSettings = DecoderSettings(),
    attention: AttentionForm = AttentionForm(),
) -> Blueprint:
    """Perceiver IO for optical flow, given how well places of the two frames match.

    This is not in the paper: it is `perceiver_io_flow_conv` with the inputs of `MatchedFrames`,
    from which a small model learns flow from few pairs.
    """
    stem = MatchedFrames(channels, radius, num_blocks)
    return _upsampled_flow(stem, image_size, num_bands, (encoder, decoder, attention))


def _frame_pairs(stem: Callable, positions: FourierPositions, image_size: Size) -> Inputs:
    """Inputs of two RGB frames."""
    spec = jax.ShapeDtypeStruct((1, 2, *image_size, 3), jnp.float32)
    return Inputs(ArrayTokens(stem, positions), spec)


def _upsampled_flow(
    stem: Callable,
    image_size: Size,
    num_bands: int,
    core: tuple[EncoderSettings, DecoderSettings, AttentionForm],
) -> Blueprint:
    """Uses a stem's features, at a quarter of the resolution, as inputs and queries."""
    if any(side % 4 for side in image_size):
        raise UserError(
            f"image_size={image_size} is not divisible by 4, the factor by which the convolutional "
            "stem reduces frames: choose multiples of 4."
        )
    coarse_size = (image_size[0] // 4, image_size[1] // 4)
    positions = FourierPositions(num_bands, coarse_size)
    return perceiver_io(
        _frame_pairs(stem, positions, image_size),
        InputQueries(),
        UpsampledFlow(coarse_size, 4),
        core,
    )
