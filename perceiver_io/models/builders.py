"""Builders: from a config section to a model. The only place where config meets modules.

A builder is a short function whose arguments are the keys of `config.model`; the table at the end
names them all. `build` turns the one that `config.model.name` picks into pure functions.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import haiku as hk
import jax.numpy as jnp

from perceiver_io.construct import construct, lookup
from perceiver_io.errors import UserError
from perceiver_io.models.attention import AttentionForm
from perceiver_io.models.builder_parts import (
    Section,
    Size,
    audio_part,
    image_inputs,
    label_part,
    video_part,
)
from perceiver_io.models.convnet import ConvNet
from perceiver_io.models.encoder import Encoder, InterleavedEncoder
from perceiver_io.models.inputs import (
    ArrayTokens,
    ConvStem,
    FramePairs,
    SeparateFrames,
    StackedFrames,
)
from perceiver_io.models.modalities import ModalityTokens
from perceiver_io.models.outputs import (
    AveragePooledLogits,
    ClassLogits,
    FlowField,
    PositionProjection,
    SharedProjection,
    TiedLogits,
    UpsampledFlow,
)
from perceiver_io.models.perceiver import Computation, Decoder, Perceiver, PerceiverIO
from perceiver_io.models.positions import FourierPositions, LearnedPositions
from perceiver_io.models.queries import (
    FirstInputQueries,
    InputQueries,
    LearnedQueries,
    ModalityQueries,
)
from perceiver_io.models.text import Embeddings, TextTokens, TokenQueries


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
    return _perceiver_io(
        image_inputs(inputs),
        LearnedQueries(1, encoder["latent_dim"]),
        ClassLogits(num_classes),
        (encoder, decoder, attention, compute_dtype),
    )


def perceiver_classifier(
    num_classes: int, inputs: Section, encoder: Section, attention: Section, compute_dtype: str
) -> Perceiver:
    """The original Perceiver: interleaved cross-attends, then averaged latents."""
    return Perceiver(
        inputs=image_inputs(inputs),
        encoder=construct(InterleavedEncoder, encoder, "model.encoder"),
        head=AveragePooledLogits(num_classes),
        computation=_computation(attention, compute_dtype),
    )


def perceiver_io_masked_lm(
    vocab_size: int,
    max_length: int,
    embedding_dim: int,
    encoder: Section,
    decoder: Section,
    attention: Section,
    compute_dtype: str,
) -> PerceiverIO:
    """Perceiver IO for masked language modelling (Perceiver IO, section 4.1): logits per token.

    Input embeddings and output logits share one table.
    """
    embeddings = Embeddings(vocab_size, embedding_dim)
    positions = LearnedPositions(max_length, embedding_dim, name="query_positions")
    return _perceiver_io(
        TextTokens(embeddings, LearnedPositions(max_length, embedding_dim)),
        TokenQueries(positions),
        TiedLogits(embeddings.table),
        (encoder, decoder, attention, compute_dtype),
    )


def perceiver_io_text_classifier(
    num_classes: int,
    vocab_size: int,
    max_length: int,
    embedding_dim: int,
    encoder: Section,
    decoder: Section,
    attention: Section,
    compute_dtype: str,
) -> PerceiverIO:
    """Perceiver IO that classifies texts with one learned query as wide as the latents."""
    positions = LearnedPositions(max_length, embedding_dim)
    return _perceiver_io(
        TextTokens(Embeddings(vocab_size, embedding_dim), positions),
        LearnedQueries(1, encoder["latent_dim"]),
        ClassLogits(num_classes),
        (encoder, decoder, attention, compute_dtype),
    )


def perceiver_io_flow(
    image_size: Size,
    neighbourhood: int,
    channels: int,
    num_bands: int,
    encoder: Section,
    decoder: Section,
    attention: Section,
    compute_dtype: str,
) -> PerceiverIO:
    """Perceiver IO for optical flow (Perceiver IO, section 4.2), frames concatenated.

    Every pixel is one input, and the same features are its query.
    """
    positions = FourierPositions(num_bands, image_size)
    return _perceiver_io(
        ArrayTokens(FramePairs(neighbourhood, channels), positions),
        InputQueries(),
        FlowField(image_size),
        (encoder, decoder, attention, compute_dtype),
    )


def perceiver_io_flow_separate(
    image_size: Size,
    neighbourhood: int,
    channels: int,
    num_bands: int,
    encoder: Section,
    decoder: Section,
    attention: Section,
    compute_dtype: str,
) -> PerceiverIO:
    """Perceiver IO for optical flow (Perceiver IO, section 4.2), frames separate.

    Every pixel of both frames is one input, with a position in time and space; those of the first
    frame are the queries.
    """
    positions = FourierPositions(num_bands, (2, *image_size))
    return _perceiver_io(
        ArrayTokens(SeparateFrames(neighbourhood, channels), positions),
        FirstInputQueries(share=2),
        FlowField(image_size),
        (encoder, decoder, attention, compute_dtype),
    )


def perceiver_io_flow_conv(
    image_size: Size,
    channels: int,
    num_bands: int,
    encoder: Section,
    decoder: Section,
    attention: Section,
    compute_dtype: str,
) -> PerceiverIO:
    """Perceiver IO for optical flow over a convolutional stem (Perceiver IO, section 4.2).

    The features of both frames together, at a quarter of the resolution, are inputs and queries;
    the flow is upsampled as in RAFT. Raises UserError for sizes that do not divide by 4.
    """
    if any(side % 4 for side in image_size):
        raise UserError(
            f"image_size={image_size} does not divide by 4, by which the convolutional stem "
            "shrinks frames: choose multiples of 4."
        )
    coarse_size = (image_size[0] // 4, image_size[1] // 4)
    return _perceiver_io(
        ArrayTokens(StackedFrames(ConvStem(channels)), FourierPositions(num_bands, coarse_size)),
        InputQueries(),
        UpsampledFlow(coarse_size, 4),
        (encoder, decoder, attention, compute_dtype),
    )


def perceiver_io_autoencoder(
    image: Section,
    audio: Section,
    label: Section,
    output_dim: int,
    encoder: Section,
    decoder: Section,
    attention: Section,
    compute_dtype: str,
) -> PerceiverIO:
    """Perceiver IO that compresses video, sound and a class label (Perceiver IO, section 4.3).

    Any of the three may be missing from the input; all can be asked for. `output_dim` is the width
    that decoded vectors of all modalities are projected to before a layer of their own.
    """
    parts = {
        "audio": construct(audio_part, audio, "model.audio"),
        "image": construct(video_part, image, "model.image"),
        "label": construct(label_part, label, "model.label"),
    }
    shared = PositionProjection(output_dim)
    return _perceiver_io(
        ModalityTokens({name: part.tokens for name, part in parts.items()}, 4),
        ModalityQueries({name: part.queries for name, part in parts.items()}, 2),
        {name: SharedProjection(shared, part.output) for name, part in parts.items()},
        (encoder, decoder, attention, compute_dtype),
    )


def _perceiver_io(
    inputs: Callable, queries: Callable, outputs: Any, core: tuple[Section, Section, Section, str]
) -> PerceiverIO:
    """The parts that differ, around encoder, decoder and computation, which all models have."""
    encoder, decoder, attention, compute_dtype = core
    return PerceiverIO(
        inputs=inputs,
        encoder=construct(Encoder, encoder, "model.encoder"),
        queries=queries,
        decoder=construct(Decoder, decoder, "model.decoder"),
        outputs=outputs,
        computation=_computation(attention, compute_dtype),
    )


def _computation(attention: Section, compute_dtype: str) -> Computation:
    return Computation(
        construct(AttentionForm, attention, "model.attention"),
        lookup(DTYPES, {"name": compute_dtype}, "model.compute_dtype"),
    )


DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}

BUILDERS = {
    "perceiver_io_classifier": perceiver_io_classifier,
    "perceiver_classifier": perceiver_classifier,
    "perceiver_io_masked_lm": perceiver_io_masked_lm,
    "perceiver_io_text_classifier": perceiver_io_text_classifier,
    "perceiver_io_flow": perceiver_io_flow,
    "perceiver_io_flow_separate": perceiver_io_flow_separate,
    "perceiver_io_flow_conv": perceiver_io_flow_conv,
    "perceiver_io_autoencoder": perceiver_io_autoencoder,
    "convnet_classifier": ConvNet,
}
