"""Architectures: from a config section to pure functions. Here alone config meets modules.

A builder is a short function whose arguments are the keys of `config.model`; the table at the end
names them all. `build` turns the one that `config.model.name` picks into an `Architecture`.
"""

import dataclasses
import functools
import inspect
import math
from collections.abc import Callable, Mapping
from typing import Annotated, Any, NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, PyTree

from perceiver_io.config.annotations import (
    INPUT_SIZE,
    UNSEEN,
    Arguments,
    Choice,
    Count,
    Natural,
    Size,
)
from perceiver_io.config.construct import check as check_section
from perceiver_io.config.construct import construct, defaults, lookup, marked
from perceiver_io.errors import UserError
from perceiver_io.models.convnet import ConvNet
from perceiver_io.models.perceiver.decoder import Decoder, OutputAdapter
from perceiver_io.models.perceiver.encoder import EncodingModel, SingleReadEncoder
from perceiver_io.models.perceiver.images import (
    IMAGE_INPUTS,
    FourierSize,
    ImageChannels,
    ImageSize,
    image_spec,
)
from perceiver_io.models.perceiver.inputs import (
    ArrayTokens,
    ConvStem,
    FramePairs,
    Inputs,
    MatchedFrames,
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
from perceiver_io.roles import Role, TaggedInit

Section = Mapping[str, Any]


@dataclasses.dataclass(frozen=True, eq=False)
class Architecture:
    """A model as pure functions that share parameters, and what is known of it without them.

    init(rng, **inputs) -> params, state. The others take (params, state, rng, ...) first and
    return (result, new state); their keywords are those of the model's methods of the same names.
    `encoder_maps` and `decoder_map` are None for a model without such attention.

    Attributes:
        input_spec: the inputs of one example, [1, ...], as the keywords of `init` and `apply`.
        sizes: by path the settings that `input_spec` follows from.
        unseen: by path the settings that change what is computed, but no array.
        tagged: () -> by name, MODULE/NAME, the tags of those parameters that are no plain weights.
    """

    init: Callable
    apply: Callable
    encode: Callable
    decode: Callable
    encoder_maps: Callable | None = None
    decoder_map: Callable | None = None
    input_spec: Mapping[str, PyTree[jax.ShapeDtypeStruct]] = dataclasses.field(default_factory=dict)
    sizes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    unseen: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    tagged: Callable[[], Mapping[str, TaggedInit]] = dict

    def shapes(self) -> tuple[PyTree, PyTree]:
        """Of the parameters and the state."""
        return jax.eval_shape(self.init, jax.random.key(0), **self.input_spec)

    def position_tables(self) -> dict[str, tuple[int, ...]]:
        """The grids of learned positions, by the names of their parameters."""
        return {name: tag.grid for name, tag in self.tagged().items() if tag.grid is not None}

    def roles(self) -> dict[str, Role]:
        """The roles of parameters, by name; those of plain weights are left out."""
        return {name: tag.role for name, tag in self.tagged().items()}


class Blueprint(NamedTuple):
    """What a builder gives: a model, and what one example is that it takes."""

    model: PerceiverIO | Perceiver | ConvNet
    spec: PyTree[jax.ShapeDtypeStruct]


def build(config: Section) -> Architecture:
    """The model of `config.model`: `name` picks the builder, the rest are its arguments.

    `compute_dtype`, float32 unless it is given, is for every builder: see `Precision`. Raises
    UserError for wrong settings.
    """
    builder, settings, dtype = _parsed(config)
    precision = Precision(dtype)

    def blueprint() -> Blueprint:
        return construct(builder, settings, _WHERE)

    def transformed():
        model = blueprint().model
        methods = {name: getattr(model, name) for name in METHODS if hasattr(model, name)}
        if isinstance(model, EncodingModel):
            methods["encoder_maps"] = functools.partial(encoder_maps, model)
        if isinstance(model, PerceiverIO):
            methods["decoder_map"] = functools.partial(decoder_map, model)
        functions = {name: precision.around(method) for name, method in methods.items()}
        return functions["__call__"], functions

    # Haiku's modules can only be made inside.
    spec = hk.transform(lambda: blueprint().spec).apply({}, None)
    init, functions = hk.multi_transform_with_state(transformed)
    return Architecture(
        init=lambda rng, **inputs: init(rng, **inputs, is_training=True),
        apply=functions["__call__"],
        encode=functions["encode"],
        decode=functions["decode"],
        encoder_maps=functions.get("encoder_maps"),
        decoder_map=functions.get("decoder_map"),
        input_spec={"inputs": spec},
        sizes=marked(builder, settings, INPUT_SIZE, _WHERE),
        unseen=marked(builder, settings, UNSEEN, _WHERE),
        tagged=lambda: _tagged(blueprint, spec),
    )


def check(config: Section) -> None:
    """Raises UserError for settings of `config.model` that no model can have."""
    builder, settings, _ = _parsed(config)
    check_section(builder, settings, _WHERE)


def missing_settings(config: Section) -> dict[str, Any]:
    """The defaults of what `config.model` leaves out. Raises UserError for a wrong name."""
    missing = defaults(lookup(ARCHITECTURES, config, _WHERE), config, _WHERE)
    return missing if "compute_dtype" in config else missing | {"compute_dtype": "float32"}


def in_textbook_form(config: Section) -> Section:
    """The section of the same model with every product as papers write it, and count its FLOPs."""
    if "attention" not in inspect.signature(lookup(ARCHITECTURES, config, _WHERE)).parameters:
        return config
    return dict(config, attention=dict(implementation="textbook"))


def _parsed(config: Section) -> tuple[Callable[..., Blueprint], dict[str, Any], DTypeLike]:
    """The builder, its arguments, and the dtype to compute in."""
    builder = lookup(ARCHITECTURES, config, _WHERE)
    settings = dict(config)
    name = settings.pop("compute_dtype", "float32")
    return builder, settings, lookup(DTYPES, {"name": name}, f"{_WHERE}.compute_dtype")


def _tagged(
    blueprint: Callable[[], Blueprint], spec: PyTree[jax.ShapeDtypeStruct]
) -> dict[str, TaggedInit]:
    """The tags of parameters by name, noted while the model is traced."""
    found = {}

    def note(next_creator, shape, dtype, init, context):
        if isinstance(init, TaggedInit):
            # A stack makes the parameters of a layer apart, and puts its own name before theirs.
            found[(context.lifted_prefix_name or "") + context.full_name] = init
        return next_creator(shape, dtype, init)

    def forward(inputs):
        with hk.custom_creator(note):
            blueprint().model(inputs, is_training=True)

    jax.eval_shape(hk.transform_with_state(forward).init, jax.random.key(0), spec)
    return found


_WHERE = "config.model"
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


Images = Annotated[Inputs, Choice(IMAGE_INPUTS)]


def perceiver_io_classifier(
    num_classes: Count,
    inputs: Images,
    encoder: EncoderSettings,
    decoder: DecoderSettings,
    attention: AttentionForm = AttentionForm(),
) -> Blueprint:
    """Perceiver IO that classifies images with one learned query as wide as the latents."""
    return _perceiver_io(
        inputs,
        LearnedQueries(1, encoder.latent_dim),
        ClassLogits(num_classes),
        (encoder, decoder, attention),
    )


def perceiver_classifier(
    num_classes: Count,
    inputs: Images,
    encoder: InterleavedEncoderSettings,
    attention: AttentionForm = AttentionForm(),
) -> Blueprint:
    """The original Perceiver: interleaved cross-attends, then averaged latents."""
    model = Perceiver(
        inputs=inputs.adapter,
        encoder=InterleavedEncoder(encoder, attention),
        head=AveragePooledLogits(num_classes),
    )
    return Blueprint(model, inputs.spec)


def convnet_classifier(
    num_classes: Count,
    widths: tuple[Count, ...],
    image_size: ImageSize,
    image_channels: ImageChannels = 3,
) -> Blueprint:
    """A plain convolutional network; `widths` are the channels of each convolution."""
    return Blueprint(ConvNet(num_classes, widths), image_spec(image_size, image_channels))


def perceiver_io_masked_lm(
    vocab_size: Count,
    max_length: Annotated[Count, INPUT_SIZE],
    embedding_dim: Count,
    encoder: EncoderSettings,
    decoder: DecoderSettings,
    attention: AttentionForm = AttentionForm(),
) -> Blueprint:
    """Perceiver IO for masked language modelling (Perceiver IO, section 4.1): logits per token.

    Input embeddings and output logits share one table.
    """
    embeddings = Embeddings(vocab_size, embedding_dim)
    positions = LearnedPositions((max_length,), embedding_dim, name="query_positions")
    return _perceiver_io(
        _text(embeddings, max_length, embedding_dim),
        TokenQueries(positions),
        TiedLogits(embeddings.table),
        (encoder, decoder, attention),
    )


def perceiver_io_text_classifier(
    num_classes: Count,
    vocab_size: Count,
    max_length: Annotated[Count, INPUT_SIZE],
    embedding_dim: Count,
    encoder: EncoderSettings,
    decoder: DecoderSettings,
    attention: AttentionForm = AttentionForm(),
) -> Blueprint:
    """Perceiver IO that classifies texts with one learned query as wide as the latents."""
    return _perceiver_io(
        _text(Embeddings(vocab_size, embedding_dim), max_length, embedding_dim),
        LearnedQueries(1, encoder.latent_dim),
        ClassLogits(num_classes),
        (encoder, decoder, attention),
    )


def perceiver_io_flow(
    image_size: FourierSize,
    neighbourhood: Count,
    channels: Count,
    num_bands: Count,
    encoder: EncoderSettings,
    decoder: DecoderSettings,
    attention: AttentionForm = AttentionForm(),
) -> Blueprint:
    """Perceiver IO for optical flow (Perceiver IO, section 4.2), frames concatenated.

    Every pixel is one input, and the same features are its query.
    """
    positions = FourierPositions(num_bands, image_size)
    return _perceiver_io(
        _frame_pairs(FramePairs(neighbourhood, channels), positions, image_size),
        InputQueries(),
        FlowField(image_size),
        (encoder, decoder, attention),
    )


def perceiver_io_flow_separate(
    image_size: FourierSize,
    neighbourhood: Count,
    channels: Count,
    num_bands: Count,
    encoder: EncoderSettings,
    decoder: DecoderSettings,
    attention: AttentionForm = AttentionForm(),
) -> Blueprint:
    """Perceiver IO for optical flow (Perceiver IO, section 4.2), frames separate.

    Every pixel of both frames is one input, with a position in time and space; those of the first
    frame are the queries.
    """
    positions = FourierPositions(num_bands, (2, *image_size))
    return _perceiver_io(
        _frame_pairs(SeparateFrames(neighbourhood, channels), positions, image_size),
        FirstInputQueries(share=2),
        FlowField(image_size),
        (encoder, decoder, attention),
    )


def perceiver_io_flow_conv(
    image_size: FourierSize,
    channels: Count,
    num_bands: Count,
    encoder: EncoderSettings,
    decoder: DecoderSettings,
    attention: AttentionForm = AttentionForm(),
) -> Blueprint:
    """Perceiver IO for optical flow over a convolutional stem (Perceiver IO, section 4.2).

    The features of both frames together, at a quarter of the resolution, are inputs and queries;
    the flow is upsampled as in RAFT. Raises UserError for sizes that do not divide by 4.
    """
    return _upsampled_flow(
        StackedFrames(ConvStem(channels)), image_size, num_bands, (encoder, decoder, attention)
    )


def perceiver_io_flow_matched(
    image_size: FourierSize,
    channels: Count,
    radius: Natural,
    num_blocks: Natural,
    num_bands: Count,
    encoder: EncoderSettings,
    decoder: DecoderSettings,
    attention: AttentionForm = AttentionForm(),
) -> Blueprint:
    """As `perceiver_io_flow_conv`, with inputs that tell how alike places of both frames are.

    This is not the paper's, but what a small model can learn from few pairs: see `MatchedFrames`
    for `channels`, `radius` and `num_blocks`.
    """
    stem = MatchedFrames(channels, radius, num_blocks)
    return _upsampled_flow(stem, image_size, num_bands, (encoder, decoder, attention))


class Part(NamedTuple):
    """What one modality of an autoencoder consists of, and what one example of it is."""

    tokens: Modality
    queries: QueryModule
    output: PositionProjection | ClassLogits
    spec: jax.ShapeDtypeStruct


def video_part(
    shape: Annotated[tuple[Count, Count, Count], INPUT_SIZE],
    patch_size: Size,
    resolution: Annotated[tuple[Count, Count, Count], UNSEEN],
    num_bands: Count,
) -> Part:
    """Frames [B, *shape, 3] in patches, decoded pixel by pixel."""
    positions = FourierPositions(num_bands, resolution)
    patch = (1, *patch_size)
    tokens = math.prod(side // p for side, p in zip(shape, patch, strict=True))
    width = 3 * math.prod(patch) + positions.width
    return Part(
        Modality(ArrayTokens(Patches(patch), positions), tokens, width),
        PositionQueries(positions, shape),
        PositionProjection(3, name="image_values"),
        jax.ShapeDtypeStruct((1, *shape, 3), jnp.float32),
    )


def audio_part(
    num_samples: Annotated[Count, INPUT_SIZE, UNSEEN], samples_per_patch: Count, num_bands: Count
) -> Part:
    """Sound [B, num_samples, 1] in patches, decoded patch by patch."""
    num_patches = num_samples // samples_per_patch
    positions = FourierPositions(num_bands, (num_samples,))
    return Part(
        Modality(
            ArrayTokens(Patches((samples_per_patch,)), positions),
            num_patches,
            samples_per_patch + positions.width,
        ),
        PositionQueries(positions, (num_patches,)),
        PositionProjection(samples_per_patch, name="audio_values"),
        jax.ShapeDtypeStruct((1, num_samples, 1), jnp.float32),
    )


def label_part(num_classes: Annotated[Count, INPUT_SIZE], query_dim: Count) -> Part:
    """A class as probabilities [B, 1, num_classes], decoded as logits [B, num_classes]."""
    return Part(
        Modality(ReadyTokens(), 1, num_classes),
        LearnedQueries(1, query_dim, name="label_query"),
        ClassLogits(num_classes, name="label_logits"),
        jax.ShapeDtypeStruct((1, 1, num_classes), jnp.float32),
    )


def perceiver_io_autoencoder(
    image: Annotated[Part, Arguments(video_part)],
    audio: Annotated[Part, Arguments(audio_part)],
    label: Annotated[Part, Arguments(label_part)],
    output_dim: Count,
    encoder: EncoderSettings,
    decoder: DecoderSettings,
    attention: AttentionForm = AttentionForm(),
) -> Blueprint:
    """Perceiver IO that compresses video, sound and a class label (Perceiver IO, section 4.3).

    Any of the three may be missing from the input; all can be asked for. `output_dim` is the width
    that decoded vectors of all modalities are projected to before a layer of their own.
    """
    parts = {"audio": audio, "image": image, "label": label}
    shared = PositionProjection(output_dim)
    tokens = ModalityTokens({name: part.tokens for name, part in parts.items()}, 4)
    return _perceiver_io(
        Inputs(tokens, {name: part.spec for name, part in parts.items()}),
        ModalityQueries({name: part.queries for name, part in parts.items()}, 2),
        {name: SharedProjection(shared, part.output) for name, part in parts.items()},
        (encoder, decoder, attention),
    )


def _text(embeddings: Embeddings, max_length: int, embedding_dim: int) -> Inputs:
    """Token ids, with learned positions."""
    positions = LearnedPositions((max_length,), embedding_dim)
    spec = jax.ShapeDtypeStruct((1, max_length), jnp.int32)
    return Inputs(TextTokens(embeddings, positions), spec)


def _frame_pairs(stem: Callable, positions: FourierPositions, image_size: Size) -> Inputs:
    """Two frames of colours."""
    spec = jax.ShapeDtypeStruct((1, 2, *image_size, 3), jnp.float32)
    return Inputs(ArrayTokens(stem, positions), spec)


def _upsampled_flow(
    stem: Callable, image_size: Size, num_bands: int, core: tuple[Any, Any, AttentionForm]
) -> Blueprint:
    """Features of a quarter of the resolution are inputs and queries; upsampled as in RAFT."""
    if any(side % 4 for side in image_size):
        raise UserError(
            f"image_size={image_size} does not divide by 4, by which the convolutional stem "
            "shrinks frames: choose multiples of 4."
        )
    coarse_size = (image_size[0] // 4, image_size[1] // 4)
    positions = FourierPositions(num_bands, coarse_size)
    return _perceiver_io(
        _frame_pairs(stem, positions, image_size),
        InputQueries(),
        UpsampledFlow(coarse_size, 4),
        core,
    )


def _perceiver_io(
    inputs: Inputs,
    queries: QueryModule,
    outputs: OutputAdapter | dict[str, OutputAdapter],
    core: tuple[EncoderSettings, DecoderSettings, AttentionForm],
) -> Blueprint:
    """The parts that differ, around encoder and decoder, which all models have."""
    encoder, decoder, form = core
    model = PerceiverIO(
        inputs=inputs.adapter,
        encoder=SingleReadEncoder(encoder, form),
        queries=queries,
        decoder=Decoder(decoder, form),
        outputs=outputs,
    )
    return Blueprint(model, inputs.spec)


ARCHITECTURES = {
    "perceiver_io_classifier": perceiver_io_classifier,
    "perceiver_classifier": perceiver_classifier,
    "perceiver_io_masked_lm": perceiver_io_masked_lm,
    "perceiver_io_text_classifier": perceiver_io_text_classifier,
    "perceiver_io_flow": perceiver_io_flow,
    "perceiver_io_flow_separate": perceiver_io_flow_separate,
    "perceiver_io_flow_conv": perceiver_io_flow_conv,
    "perceiver_io_flow_matched": perceiver_io_flow_matched,
    "perceiver_io_autoencoder": perceiver_io_autoencoder,
    "convnet_classifier": convnet_classifier,
}
