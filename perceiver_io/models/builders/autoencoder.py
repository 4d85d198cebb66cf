"""Autoencoders of several modalities: Perceiver IO, section 4.3."""

import functools
import math
from collections.abc import Mapping
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from perceiver_io.config.annotations import (
    INPUT_SIZE,
    UNSEEN,
    Arguments,
    Length,
    Positive,
    Side,
    Size,
    Width,
)
from perceiver_io.models.builders.blueprint import Blueprint, perceiver_io
from perceiver_io.models.perceiver.inputs import ArrayTokens, Inputs, Patches, ReadyTokens
from perceiver_io.models.perceiver.modalities import Modality, ModalityTokens
from perceiver_io.models.perceiver.outputs import ClassLogits, PositionProjection, SharedProjection
from perceiver_io.models.perceiver.positions import FourierPositions
from perceiver_io.models.perceiver.queries import (
    LearnedQueries,
    ModalityQueries,
    PositionQueries,
    SizedQueries,
)
from perceiver_io.models.perceiver.window_start import Placed, Windows, window_start
from perceiver_io.models.settings import AttentionForm, DecoderSettings, EncoderSettings


class Part(NamedTuple):
    """What an autoencoder needs for one modality: as its input, its queries, and its output.

    Inputs are divided by `scale`, and outputs multiplied with it, which lets the weights of weak
    signals be of ordinary size. `windows`, if any, are those of the initial attention.
    """

    tokens: Modality
    queries: SizedQueries
    output: PositionProjection | ClassLogits
    scale: float = 1.0
    windows: Placed | None = None


def video_part(
    shape: Annotated[tuple[Side, Side, Side], INPUT_SIZE],
    patch_size: Size,
    resolution: Annotated[tuple[Side, Side, Side], UNSEEN],
    num_bands: Width,
    scale: Annotated[Positive, UNSEEN] = 1.0,
    windows: Windows | None = None,
) -> Part:
    """Frames [B, *shape, 3] in patches, decoded pixel by pixel; for the rest see `Part`."""
    positions = FourierPositions(num_bands, resolution)
    patch = (1, *patch_size)
    tokens = tuple(side // p for side, p in zip(shape, patch, strict=True))
    num_values = 3 * math.prod(patch)
    spec = jax.ShapeDtypeStruct((1, *shape, 3), jnp.float32)
    return Part(
        Modality(
            ArrayTokens(Patches(patch), positions),
            math.prod(tokens),
            num_values + positions.width,
            spec,
        ),
        PositionQueries(positions, shape),
        PositionProjection(3, scale=scale, name="image_values"),
        scale,
        windows and Placed(windows, positions, num_values, tokens, shape),
    )


def audio_part(
    num_samples: Annotated[Length, INPUT_SIZE, UNSEEN],
    samples_per_patch: Width,
    num_bands: Width,
    scale: Annotated[Positive, UNSEEN] = 1.0,
    windows: Windows | None = None,
) -> Part:
    """Audio [B, num_samples, 1] in patches, decoded patch by patch; for the rest see `Part`."""
    num_patches = num_samples // samples_per_patch
    positions = FourierPositions(num_bands, (num_samples,))
    return Part(
        Modality(
            ArrayTokens(Patches((samples_per_patch,)), positions),
            num_patches,
            samples_per_patch + positions.width,
            jax.ShapeDtypeStruct((1, num_samples, 1), jnp.float32),
        ),
        PositionQueries(positions, (num_patches,)),
        PositionProjection(samples_per_patch, scale=scale, name="audio_values"),
        scale,
        windows and Placed(windows, positions, samples_per_patch, (num_patches,), (num_patches,)),
    )


def label_part(num_classes: Annotated[Width, INPUT_SIZE], query_dim: Width) -> Part:
    """A class as probabilities [B, 1, num_classes], decoded as logits [B, num_classes]."""
    spec = jax.ShapeDtypeStruct((1, 1, num_classes), jnp.float32)
    return Part(
        Modality(ReadyTokens(), 1, num_classes, spec),
        LearnedQueries(1, query_dim, name="label_query"),
        ClassLogits(num_classes, name="label_logits"),
    )


def autoencoder(
    parts: Mapping[str, Part],
    output_dim: int,
    core: tuple[EncoderSettings, DecoderSettings, AttentionForm],
) -> Blueprint:
    """Perceiver IO as an autoencoder of any modalities (Perceiver IO, section 4.3).

    Each example may lack some of them in the input (see `ModalityTokens`); all can be decoded, and
    those that a query leaves out cost nothing. `output_dim` is the width to which decoded vectors
    are projected before each modality's own output layer.
    """
    shared = PositionProjection(output_dim)
    tokens = ModalityTokens({name: part.tokens for name, part in parts.items()}, 4)
    scales = {name: part.scale for name, part in parts.items()}
    model = perceiver_io(
        Inputs(tokens, tokens.spec, functools.partial(_scaled, scales=scales)),
        ModalityQueries({name: part.queries for name, part in parts.items()}, 2),
        {name: SharedProjection(shared, part.output) for name, part in parts.items()},
        core,
    )
    placed = [parts[name].windows for name in sorted(parts)]
    windows = [each for each in placed if each is not None]
    if not windows:
        return model
    encoder, decoder, _ = core
    heads = encoder.cross_attend.num_heads, decoder.cross_attend.num_heads
    start = functools.partial(window_start, modalities=windows, num_heads=heads)
    return model._replace(start=start)


def _scaled(inputs: Mapping[str, PyTree], scales: Mapping[str, float]) -> dict[str, PyTree]:
    """Each modality divided by its scale; what else the inputs hold, as it is."""
    return {name: x / scales[name] if name in scales else x for name, x in inputs.items()}


def perceiver_io_autoencoder(
    image: Annotated[Part, Arguments(video_part)],
    audio: Annotated[Part, Arguments(audio_part)],
    label: Annotated[Part, Arguments(label_part)],
    output_dim: Width,
    encoder: EncoderSettings,
    decoder: DecoderSettings = DecoderSettings(),
    attention: AttentionForm = AttentionForm(),
) -> Blueprint:
    """An autoencoder of video, audio and class label, as published; see `autoencoder`."""
    parts = {"audio": audio, "image": image, "label": label}
    return autoencoder(parts, output_dim, (encoder, decoder, attention))
