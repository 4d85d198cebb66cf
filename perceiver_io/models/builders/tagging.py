"""Classifiers of sound, video, or both, in one set of tokens (Perceiver, section 4.2)."""

import math
from typing import Annotated

import jax
import jax.numpy as jnp

from perceiver_io.config.annotations import INPUT_SIZE, Arguments, Choice, Length, Side, Size, Width
from perceiver_io.errors import UserError
from perceiver_io.models.builders.blueprint import Blueprint, perceiver_io
from perceiver_io.models.perceiver.inputs import ArrayTokens, Inputs, Patches
from perceiver_io.models.perceiver.modalities import Modality, ModalityTokens
from perceiver_io.models.perceiver.original import (
    InterleavedEncoder,
    InterleavedEncoderSettings,
    Perceiver,
)
from perceiver_io.models.perceiver.outputs import AveragePooledLogits, ClassLogits
from perceiver_io.models.perceiver.positions import FourierPositions
from perceiver_io.models.perceiver.queries import LearnedQueries
from perceiver_io.models.settings import AttentionForm, DecoderSettings, EncoderSettings

# Learned channels that tell a token's modality, besides those that pad it to the widest one.
_MODALITY_CHANNELS = 4


def waveform(
    num_samples: Annotated[Length, INPUT_SIZE], samples_per_patch: Width, num_bands: Width
) -> Modality:
    """A waveform [B, num_samples, 1] in patches of consecutive samples."""
    return _patches((num_samples,), 1, (samples_per_patch,), num_bands)


def spectrogram(
    shape: Annotated[Size, INPUT_SIZE], num_bands: Width, patch_size: Size = (1, 1)
) -> Modality:
    """A spectrogram [B, frames, bands, 1] of this shape, in patches of frames and bands."""
    return _patches(shape, 1, patch_size, num_bands)


def video(
    shape: Annotated[tuple[Side, Side, Side], INPUT_SIZE],
    num_bands: Width,
    patch_size: tuple[Side, Side, Side] = (2, 8, 8),
) -> Modality:
    """Video [B, frames, height, width, 3] of this shape, in patches of time and space."""
    return _patches(shape, 3, patch_size, num_bands)


def _patches(
    shape: tuple[int, ...], channels: int, patch_size: tuple[int, ...], num_bands: int
) -> Modality:
    """Patches with Fourier positions, up to the highest frequency that their grid can show."""
    grid = tuple(side // patch for side, patch in zip(shape, patch_size, strict=True))
    positions = FourierPositions(num_bands, grid)
    return Modality(
        ArrayTokens(Patches(patch_size), positions),
        math.prod(grid),
        channels * math.prod(patch_size) + positions.width,
        jax.ShapeDtypeStruct((1, *shape, channels), jnp.float32),
    )


SOUNDS = {"waveform": waveform, "spectrogram": spectrogram}

Sound = Annotated[Modality | None, Choice(SOUNDS)]
Video = Annotated[Modality | None, Arguments(video)]


def perceiver_io_clip_tagger(
    num_classes: Width,
    encoder: EncoderSettings,
    sound: Sound = None,
    video: Video = None,
    query_dim: Width = 1024,
    decoder: DecoderSettings = DecoderSettings(),
    attention: AttentionForm = AttentionForm(),
) -> Blueprint:
    """Perceiver IO for classes of sound, video, or both, with one learned query.

    Inputs are `sound` and `video`, as far as they are set, and `present`, which of them each
    example has; see `ModalityTokens`. Raises UserError if neither is set.
    """
    return perceiver_io(
        _inputs(sound, video),
        LearnedQueries(1, query_dim),
        ClassLogits(num_classes),
        (encoder, decoder, attention),
    )


def perceiver_clip_tagger(
    num_classes: Width,
    encoder: InterleavedEncoderSettings,
    sound: Sound = None,
    video: Video = None,
    attention: AttentionForm = AttentionForm(),
) -> Blueprint:
    """The original Perceiver for the same inputs: average pooling of the latents."""
    inputs = _inputs(sound, video)
    model = Perceiver(
        inputs=inputs.adapter,
        encoder=InterleavedEncoder(encoder, attention),
        head=AveragePooledLogits(num_classes),
    )
    return Blueprint(model, inputs.spec)


def _inputs(sound: Modality | None, video: Modality | None) -> Inputs:
    parts = {"sound": sound, "video": video}
    given = {name: part for name, part in parts.items() if part is not None}
    if not given:
        raise UserError("config.model.sound and config.model.video are both None: set one or both.")
    tokens = ModalityTokens(given, _MODALITY_CHANNELS)
    return Inputs(tokens, tokens.spec)
