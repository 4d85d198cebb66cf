"""Architectures: from a config section to pure functions. Here alone config meets modules.

A builder is a short function whose arguments are the keys of `config.model`; the table at the end
names them all. `build` turns the one that `config.model.name` picks into an `Architecture`.
"""

import dataclasses
import functools
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, PyTree

from perceiver_io.config.construct import construct, defaults, lookup
from perceiver_io.errors import UserError
from perceiver_io.models.convnet import ConvNet
from perceiver_io.models.perceiver.decoder import Decoder, OutputAdapter
from perceiver_io.models.perceiver.encoder import EncodingModel, InputAdapter, SingleReadEncoder
from perceiver_io.models.perceiver.images import Size, image_inputs
from perceiver_io.models.perceiver.inputs import (
    ArrayTokens,
    ConvStem,
    FramePairs,
    Patches,
    ReadyTokens,
    SeparateFrames,
    StackedFrames,
)
from perceiver_io.models.perceiver.maps import decoder_map, encoder_maps
from perceiver_io.models.perceiver.modalities import Modality, ModalityTokens
from perceiver_io.models.perceiver.original import (
    InterleavedEncoder,
    InterleavedEncoderSettings,
    Perceiver,
)
from perceiver_io.models.perceiver.outputs import (
    AveragePooledLogits,
    ClassLogits,
    FlowField,
    PositionProjection,
    SharedProjection,
    TiedLogits,
    UpsampledFlow,
)
from perceiver_io.models.perceiver.perceiver import PerceiverIO, QueryModule
from perceiver_io.models.perceiver.positions import FourierPositions, LearnedPositions
from perceiver_io.models.perceiver.queries import (
    FirstInputQueries,
    InputQueries,
    LearnedQueries,
    ModalityQueries,
    PositionQueries,
)
from perceiver_io.models.perceiver.text import Embeddings, TextTokens, TokenQueries
from perceiver_io.models.settings import (
    AttentionForm,
    DecoderSettings,
    EncoderSettings,
)

Section = Mapping[str, Any]


class Architecture(NamedTuple):
    """A model as pure functions that share parameters.

    init(rng, **inputs) -> params, state. The others take (params, state, rng, ...) first and
    return (result, new state); their keywords are those of the model's methods of the same names.
    `encoder_maps` and `decoder_map` are None for a model without such attention.
    """

    init: Callable
    apply: Callable
    encode: Callable
    decode: Callable
    encoder_maps: Callable | None = None
    decoder_map: Callable | None = None


def build(config: Section) -> Architecture:
    """The model of `config.model`: `name` picks the builder, the rest are its arguments.

    `compute_dtype`, float32 unless it is given, is for every builder: see `Precision`. Raises
    UserError for a wrong name here, and for a wrong argument at `init`, since modules are
    constructed when they are traced.
    """
    builder = lookup(ARCHITECTURES, config, "model")
    sizes = dict(config)
    dtype = lookup(DTYPES, {"name": sizes.pop("compute_dtype", "float32")}, "model.compute_dtype")

    def transformed():
        model = construct(builder, sizes, "model")
        methods = {name: getattr(model, name) for name in METHODS if hasattr(model, name)}
        if isinstance(model, EncodingModel):
            methods["encoder_maps"] = functools.partial(encoder_maps, model)
        if isinstance(model, PerceiverIO):
            methods["decoder_map"] = functools.partial(decoder_map, model)
        precision = Precision(dtype)
        functions = {name: precision.around(method) for name, method in methods.items()}
        return functions["__call__"], functions

    init, functions = hk.multi_transform_with_state(transformed)
    return Architecture(
        init=lambda rng, **inputs: init(rng, **inputs, is_training=True),
        apply=functions["__call__"],
        encode=functions["encode"],
        decode=functions["decode"],
        encoder_maps=functions.get("encoder_maps"),
        decoder_map=functions.get("decoder_map"),
    )


def missing_settings(config: Section) -> dict[str, Any]:
    """The defaults of what `config.model` leaves out. Raises UserError for a wrong name."""
    builder = lookup(ARCHITECTURES, config, "model")
    missing = defaults(builder, config)
    return missing if "compute_dtype" in config else missing | {"compute_dtype": "float32"}


def in_textbook_form(config: Section) -> Section:
    """The section of the same model with every product as papers write it, and count its FLOPs."""
    if "attention" not in inspect.signature(lookup(ARCHITECTURES, config, "model")).parameters:
        return config
    return dict(config, attention=dict(implementation="textbook"))


METHODS = ("__call__", "encode", "decode")
DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


@dataclasses.dataclass(frozen=True)
class Precision:
    """The precision of everything between inputs and outputs of a model, whatever it is made of.

    Parameters are kept in float32 and read in this precision; softmax, the statistics of norms and
    the results are float32.
    """

    dtype: DTypeLike

    def around(self, method: Callable) -> Callable:
        """The method with its inputs, parameters and results in their precisions."""

        def call(*arguments: PyTree, **keywords: PyTree) -> PyTree[Array]:
            # Where a query asks for points, features are made of their exact coordinates.
            exact = {"query": _cast(keywords.pop("query"), None)} if "query" in keywords else {}
            arguments, keywords = _cast((arguments, keywords), self.dtype)
            with hk.custom_creator(_create_in_float32), hk.custom_getter(self._read):
                return _cast(method(*arguments, **keywords, **exact), jnp.float32)

        return call

    def _read(self, next_getter, value, context):
        value = next_getter(value)
        return value if isinstance(context.module, hk.BatchNorm) else value.astype(self.dtype)


def _create_in_float32(next_creator, shape, dtype, init, context):
    # Layers ask for parameters in the precision of their inputs.
    del dtype, context
    return next_creator(shape, jnp.float32, init)


def _cast(tree: PyTree, dtype: DTypeLike | None) -> PyTree:
    """The tree with all floating-point arrays in `dtype`, or as they are."""

    def cast(x):
        if not hasattr(x, "dtype"):
            return x
        return jnp.asarray(x, dtype if jnp.issubdtype(x.dtype, jnp.floating) else None)

    return jax.tree.map(cast, tree)


def perceiver_io_classifier(
    num_classes: int,
    inputs: Section,
    encoder: EncoderSettings,
    decoder: DecoderSettings,
    attention: AttentionForm = AttentionForm(),
) -> PerceiverIO:
    """Perceiver IO that classifies images with one learned query as wide as the latents."""
    return _perceiver_io(
        image_inputs(inputs),
        LearnedQueries(1, encoder.latent_dim),
        ClassLogits(num_classes),
        (encoder, decoder, attention),
    )


def perceiver_classifier(
    num_classes: int,
    inputs: Section,
    encoder: InterleavedEncoderSettings,
    attention: AttentionForm = AttentionForm(),
) -> Perceiver:
    """The original Perceiver: interleaved cross-attends, then averaged latents."""
    return Perceiver(
        inputs=image_inputs(inputs),
        encoder=InterleavedEncoder(encoder, attention),
        head=AveragePooledLogits(num_classes),
    )


def perceiver_io_masked_lm(
    vocab_size: int,
    max_length: int,
    embedding_dim: int,
    encoder: EncoderSettings,
    decoder: DecoderSettings,
    attention: AttentionForm = AttentionForm(),
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
        (encoder, decoder, attention),
    )


def perceiver_io_text_classifier(
    num_classes: int,
    vocab_size: int,
    max_length: int,
    embedding_dim: int,
    encoder: EncoderSettings,
    decoder: DecoderSettings,
    attention: AttentionForm = AttentionForm(),
) -> PerceiverIO:
    """Perceiver IO that classifies texts with one learned query as wide as the latents."""
    positions = LearnedPositions(max_length, embedding_dim)
    return _perceiver_io(
        TextTokens(Embeddings(vocab_size, embedding_dim), positions),
        LearnedQueries(1, encoder.latent_dim),
        ClassLogits(num_classes),
        (encoder, decoder, attention),
    )


def perceiver_io_flow(
    image_size: Size,
    neighbourhood: int,
    channels: int,
    num_bands: int,
    encoder: EncoderSettings,
    decoder: DecoderSettings,
    attention: AttentionForm = AttentionForm(),
) -> PerceiverIO:
    """Perceiver IO for optical flow (Perceiver IO, section 4.2), frames concatenated.

    Every pixel is one input, and the same features are its query.
    """
    positions = FourierPositions(num_bands, image_size)
    return _perceiver_io(
        ArrayTokens(FramePairs(neighbourhood, channels), positions),
        InputQueries(),
        FlowField(image_size),
        (encoder, decoder, attention),
    )


def perceiver_io_flow_separate(
    image_size: Size,
    neighbourhood: int,
    channels: int,
    num_bands: int,
    encoder: EncoderSettings,
    decoder: DecoderSettings,
    attention: AttentionForm = AttentionForm(),
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
        (encoder, decoder, attention),
    )


def perceiver_io_flow_conv(
    image_size: Size,
    channels: int,
    num_bands: int,
    encoder: EncoderSettings,
    decoder: DecoderSettings,
    attention: AttentionForm = AttentionForm(),
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
        (encoder, decoder, attention),
    )


def perceiver_io_autoencoder(
    image: Section,
    audio: Section,
    label: Section,
    output_dim: int,
    encoder: EncoderSettings,
    decoder: DecoderSettings,
    attention: AttentionForm = AttentionForm(),
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
        (encoder, decoder, attention),
    )


def _perceiver_io(
    inputs: InputAdapter,
    queries: QueryModule,
    outputs: OutputAdapter | dict[str, OutputAdapter],
    core: tuple[EncoderSettings, DecoderSettings, AttentionForm],
) -> PerceiverIO:
    """The parts that differ, around encoder and decoder, which all models have."""
    encoder, decoder, form = core
    return PerceiverIO(
        inputs=inputs,
        encoder=SingleReadEncoder(encoder, form),
        queries=queries,
        decoder=Decoder(decoder, form),
        outputs=outputs,
    )


class _Part(NamedTuple):
    """What one modality of an autoencoder consists of."""

    tokens: Modality
    queries: QueryModule
    output: PositionProjection | ClassLogits


def video_part(shape: Sequence[int], patch_size: Size, resolution: Sequence[int], num_bands: int):
    """Frames [B, *shape, 3] in patches, decoded pixel by pixel."""
    positions = FourierPositions(num_bands, tuple(resolution))
    patch = (1, *patch_size)
    tokens = math.prod(side // p for side, p in zip(shape, patch, strict=True))
    width = 3 * math.prod(patch) + positions.width
    return _Part(
        Modality(ArrayTokens(Patches(patch), positions), tokens, width),
        PositionQueries(positions, tuple(shape)),
        PositionProjection(3, name="image_values"),
    )


def audio_part(num_samples: int, samples_per_patch: int, num_bands: int) -> _Part:
    """Sound [B, num_samples, 1] in patches, decoded patch by patch."""
    num_patches = num_samples // samples_per_patch
    positions = FourierPositions(num_bands, (num_samples,))
    return _Part(
        Modality(
            ArrayTokens(Patches((samples_per_patch,)), positions),
            num_patches,
            samples_per_patch + positions.width,
        ),
        PositionQueries(positions, (num_patches,)),
        PositionProjection(samples_per_patch, name="audio_values"),
    )


def label_part(num_classes: int, query_dim: int) -> _Part:
    """A class as probabilities [B, 1, num_classes], decoded as logits [B, num_classes]."""
    return _Part(
        Modality(ReadyTokens(), 1, num_classes),
        LearnedQueries(1, query_dim, name="label_query"),
        ClassLogits(num_classes, name="label_logits"),
    )


ARCHITECTURES = {
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
