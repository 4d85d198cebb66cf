"""Architectures: builds a model, as pure functions, from a config section.

A builder is a short function whose arguments are the keys of `config.model`; the table at the end
lists them all. `build` turns the builder chosen by `config.model.name` into an `Architecture`. This
is the only file where config sections meet Haiku modules.
"""

import dataclasses
import functools
import inspect
import math
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, PRNGKeyArray, PyTree

from perceiver_io.config.annotations import (
    INPUT_SIZE,
    UNSEEN,
    Arguments,
    Choice,
    Length,
    Repeats,
    Side,
    Size,
    Width,
    within,
)
from perceiver_io.config.construct import check as check_section
from perceiver_io.config.construct import construct, defaults, lookup, marked
from perceiver_io.errors import UserError
from perceiver_io.models.baselines import ResNet, TokenTransformer, ViT
from perceiver_io.models.bert import BERT
from perceiver_io.models.coatnet.coatnet import STEMS, CoAtNet, ConvolutionalStem, Stem
from perceiver_io.models.coatnet.settings import CoAtNetBlocks, Layout, stages
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
    as_given,
)
from perceiver_io.models.perceiver.local_start import local_start
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
    TanhHead,
    TaskHeads,
    TiedLogits,
    UpsampledFlow,
)
from perceiver_io.models.perceiver.perceiver import PerceiverIO, QueryModule
from perceiver_io.models.perceiver.points import POINT_INPUTS
from perceiver_io.models.perceiver.positions import FourierPositions, LearnedPositions
from perceiver_io.models.perceiver.queries import (
    FirstInputQueries,
    InputQueries,
    LearnedQueries,
    ModalityQueries,
    PositionQueries,
    TaskQueries,
)
from perceiver_io.models.perceiver.text import (
    Embeddings,
    FirstTokenQuery,
    TextOfTask,
    TextTokens,
    TokenQueries,
)
from perceiver_io.models.settings import (
    AttentionForm,
    DecoderSettings,
    EncoderSettings,
    LatentStackSettings,
    Remat,
)
from perceiver_io.roles import Role, TaggedInit

Section = Mapping[str, Any]


@dataclasses.dataclass(frozen=True, eq=False)
class Architecture:
    """Pure functions that share parameters, and a description of the inputs and weights.

    init(rng, **inputs) -> params, state. The others take (params, state, rng, ...) first and
    return (result, new state); their keyword arguments are those of the model's methods of the same
    names. `encoder_maps` and `decoder_map` are None for a model without such attention.

    Attributes:
        input_spec: shapes and dtypes of one example's inputs, [1, ...], by the keyword arguments of
            `init` and `apply`.
        sizes: by path, the settings that determine `input_spec`.
        unseen: by path, the settings that change the result, but not the shape of any parameter.
        tagged: () -> by name, MODULE/NAME, the tags of parameters other than plain weights.
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
        """Shapes and dtypes of the parameters and of the state."""
        return jax.eval_shape(self.init, jax.random.key(0), **self.input_spec)

    def position_tables(self) -> dict[str, tuple[int, ...]]:
        """The grids of learned positions, by parameter name."""
        return {name: tag.grid for name, tag in self.tagged().items() if tag.grid is not None}

    def roles(self) -> dict[str, Role]:
        """The roles of parameters other than plain weights, by name."""
        return {name: tag.role for name, tag in self.tagged().items()}


def _as_drawn(params: hk.Params) -> hk.Params:
    return params


class Blueprint(NamedTuple):
    """What a builder returns: a model, the shapes and dtypes of one example, and a start.

    `start` changes the initial parameters, which Haiku draws one by one. `features` is as in
    `Inputs`.
    """

    model: PerceiverIO | Perceiver | ConvNet | ResNet | ViT | TokenTransformer | CoAtNet | BERT
    spec: PyTree[jax.ShapeDtypeStruct]
    start: Callable[[hk.Params], hk.Params] = _as_drawn
    features: Callable[[PyTree[Array]], PyTree[Array]] = as_given


def build(config: Section) -> Architecture:
    """The model of `config.model`: `name` chooses the builder, the rest are its arguments.

    Every model also has the setting `compute_dtype`, float32 by default: see `Precision`. Raises
    UserError for invalid settings.
    """
    builder, settings, dtype = _parsed(config)
    precision = Precision(dtype)

    def blueprint() -> Blueprint:
        return construct(builder, settings, _WHERE)

    def transformed():
        model, _, _, features = blueprint()
        methods = {name: getattr(model, name) for name in METHODS if hasattr(model, name)}
        if isinstance(model, EncodingModel):
            methods["encoder_maps"] = functools.partial(encoder_maps, model)
        if isinstance(model, PerceiverIO):
            methods["decoder_map"] = functools.partial(decoder_map, model)
        functions = {name: precision.around(method, features) for name, method in methods.items()}
        return functions["__call__"], functions

    # Haiku modules can only be created inside a transform.
    _, spec, start, _ = hk.transform(blueprint).apply({}, None)
    drawn, functions = hk.multi_transform_with_state(transformed)

    def init(rng: PRNGKeyArray, **inputs: PyTree) -> tuple[hk.Params, hk.State]:
        params, state = drawn(rng, **inputs, is_training=True)
        return start(params), state

    return Architecture(
        init=init,
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
    """Raises UserError for invalid settings in `config.model`."""
    builder, settings, _ = _parsed(config)
    check_section(builder, settings, _WHERE)


def missing_settings(config: Section) -> dict[str, Any]:
    """The defaults of the settings that `config.model` omits. Raises UserError for a wrong name."""
    missing = defaults(lookup(ARCHITECTURES, config, _WHERE), config, _WHERE)
    return missing if "compute_dtype" in config else missing | {"compute_dtype": "float32"}


def in_textbook_form(config: Section) -> Section:
    """The section with textbook attention, whose FLOPs are the ones that papers report."""
    if "attention" not in inspect.signature(lookup(ARCHITECTURES, config, _WHERE)).parameters:
        return config
    return dict(config, attention=dict(implementation="textbook"))


def _parsed(config: Section) -> tuple[Callable[..., Blueprint], dict[str, Any], DTypeLike]:
    """The builder, its arguments, and the compute dtype."""
    builder = lookup(ARCHITECTURES, config, _WHERE)
    settings = dict(config)
    name = settings.pop("compute_dtype", "float32")
    return builder, settings, lookup(DTYPES, {"name": name}, f"{_WHERE}.compute_dtype")


def _tagged(
    blueprint: Callable[[], Blueprint], spec: PyTree[jax.ShapeDtypeStruct]
) -> dict[str, TaggedInit]:
    """The tags of parameters by name, recorded while the model is traced."""
    found = {}

    def note(next_creator, shape, dtype, init, context):
        if isinstance(init, TaggedInit):
            # `layer_stack` lifts the parameters of its layer and prefixes their names.
            found[(context.lifted_prefix_name or "") + context.full_name] = init
        return next_creator(shape, dtype, init)

    def forward(inputs):
        with hk.custom_creator(note):
            model, _, _, features = blueprint()
            model(features(inputs), is_training=True)

    jax.eval_shape(hk.transform_with_state(forward).init, jax.random.key(0), spec)
    return found


_WHERE = "config.model"
METHODS = ("__call__", "encode", "decode")
DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


@dataclasses.dataclass(frozen=True)
class Precision:
    """The compute dtype of everything between the inputs and outputs of a model.

    Parameters are stored in float32 and cast to this dtype on use; softmax, the statistics of norms
    and the results are in float32.
    """

    dtype: DTypeLike

    def around(self, method: Callable, features: Callable[[PyTree], PyTree] = as_given) -> Callable:
        """The method with casts of its inputs, parameters and results.

        Before the casts, `features` is applied to the keyword argument `inputs`, if there is one.
        """

        def call(*arguments: PyTree, **keywords: PyTree) -> PyTree[Array]:
            if "inputs" in keywords:
                keywords["inputs"] = features(_cast(keywords["inputs"], None))
            # A query may hold coordinates, which need full precision.
            exact = {"query": _cast(keywords.pop("query"), None)} if "query" in keywords else {}
            arguments, keywords = _cast((arguments, keywords), self.dtype)
            with hk.custom_creator(_create_in_float32), hk.custom_getter(self._read):
                return _cast(method(*arguments, **keywords, **exact), jnp.float32)

        return call

    def _read(self, next_getter, value, context):
        value = next_getter(value)
        return value if isinstance(context.module, hk.BatchNorm) else value.astype(self.dtype)


def _create_in_float32(next_creator, shape, dtype, init, context):
    # Layers request parameters in the dtype of their inputs.
    del dtype, context
    return next_creator(shape, jnp.float32, init)


def _cast(tree: PyTree, dtype: DTypeLike | None) -> PyTree:
    """The tree with all floating-point arrays cast to `dtype`, unless that is None."""

    def cast(x):
        if not hasattr(x, "dtype"):
            return x
        return jnp.asarray(x, dtype if jnp.issubdtype(x.dtype, jnp.floating) else None)

    return jax.tree.map(cast, tree)


ImagesOrPoints = Annotated[Inputs, Choice(IMAGE_INPUTS | POINT_INPUTS)]
# How the weights of a text model start: as in the paper, or with local attention.
Start = Literal["random", "local"]
STARTS = {"random": _as_drawn, "local": local_start}


def perceiver_io_classifier(
    num_classes: Width,
    inputs: ImagesOrPoints,
    encoder: EncoderSettings,
    decoder: DecoderSettings = DecoderSettings(),
    attention: AttentionForm = AttentionForm(),
) -> Blueprint:
    """Perceiver IO for classification of images or point clouds.

    It has one learned query, as wide as the latents.
    """
    return _perceiver_io(
        inputs,
        LearnedQueries(1, encoder.latent_dim),
        ClassLogits(num_classes),
        (encoder, decoder, attention),
    )


def perceiver_classifier(
    num_classes: Width,
    inputs: ImagesOrPoints,
    encoder: InterleavedEncoderSettings,
    attention: AttentionForm = AttentionForm(),
) -> Blueprint:
    """The original Perceiver: interleaved cross-attends, then average pooling of the latents."""
    model = Perceiver(
        inputs=inputs.adapter,
        encoder=InterleavedEncoder(encoder, attention),
        head=AveragePooledLogits(num_classes),
    )
    return Blueprint(model, inputs.spec, features=inputs.features)


def convnet_classifier(
    num_classes: Width,
    widths: tuple[Width, ...],
    image_size: ImageSize,
    image_channels: ImageChannels = 3,
) -> Blueprint:
    """A plain convolutional network; `widths` are the output channels of its convolutions."""
    return Blueprint(ConvNet(num_classes, widths), image_spec(image_size, image_channels))


def resnet_classifier(
    num_classes: Width,
    inputs: ImagesOrPoints,
    depths: tuple[Repeats, ...],
    widths: tuple[Width, ...],
    bottleneck: bool = True,
) -> Blueprint:
    """ResNet on pixels or features with their positions, a baseline of Perceiver, section 4.1.

    Raises UserError unless there is one depth for each width, and for widths of bottlenecks that
    are not multiples of 4.
    """
    if len(depths) != len(widths) or (bottleneck and any(width % 4 for width in widths)):
        raise UserError(
            f"config.model has depths={depths} and widths={widths}: give one of each for each "
            "stage, with bottleneck=True widths that are multiples of 4."
        )
    model = ResNet(num_classes, inputs.adapter, depths, widths, bottleneck)
    return Blueprint(model, inputs.spec, features=inputs.features)


def vit_classifier(
    num_classes: Width,
    inputs: ImagesOrPoints,
    patch_size: Size,
    width: Width,
    layers: LatentStackSettings,
    attention: AttentionForm = AttentionForm(),
) -> Blueprint:
    """ViT on pixels or features with their positions, a baseline of Perceiver, section 4.1."""
    model = ViT(num_classes, inputs.adapter, patch_size, width, layers, attention)
    return Blueprint(model, inputs.spec, features=inputs.features)


def transformer_classifier(
    num_classes: Width,
    inputs: ImagesOrPoints,
    width: Width,
    layers: LatentStackSettings,
    attention: AttentionForm = AttentionForm(),
) -> Blueprint:
    """A transformer on all pixels, a baseline of Perceiver, section 4.1."""
    model = TokenTransformer(num_classes, inputs.adapter, width, layers, attention)
    return Blueprint(model, inputs.spec, features=inputs.features)


def coatnet_classifier(
    num_classes: Width,
    image_size: ImageSize,
    stem: Annotated[Stem, Choice(STEMS)],
    layout: Layout,
    depths: tuple[Repeats, ...],
    widths: tuple[Width, ...],
    head_width: Width | None = None,
    norm_first: Annotated[bool, UNSEEN] = False,
    blocks: CoAtNetBlocks = CoAtNetBlocks(),
    remat: Remat = "none",
    attention: AttentionForm = AttentionForm(),
    image_channels: ImageChannels = 3,
) -> Blueprint:
    """CoAtNet (2106.04803) in any layout, such as C-C-T-T; ViT_REL is `T` after `patches`.

    The model takes images of any size: `image_size` is that of the tables of relative biases. The
    head has a hidden layer with tanh if `head_width` is set; `norm_first` puts the last norm before
    average pooling.

    Raises UserError unless there is one depth and one width for each letter.
    """
    model = CoAtNet(
        num_classes=num_classes,
        image_size=image_size,
        stem=stem,
        stages=stages(layout, depths, widths, reduce_first=isinstance(stem, ConvolutionalStem)),
        head_width=head_width,
        norm_first=norm_first,
        blocks=blocks,
        form=attention,
        remat=remat,
    )
    return Blueprint(model, image_spec(image_size, image_channels))


def perceiver_io_masked_lm(
    vocab_size: Width,
    max_length: Annotated[Width, INPUT_SIZE],
    embedding_dim: Width,
    encoder: EncoderSettings,
    decoder: DecoderSettings = DecoderSettings(),
    attention: AttentionForm = AttentionForm(),
    start: Start = "random",
) -> Blueprint:
    """Perceiver IO for masked language modelling (Perceiver IO, section 4.1): logits per token.

    Input embeddings and output layer share one table.
    """
    embeddings = Embeddings(vocab_size, embedding_dim)
    positions = LearnedPositions((max_length,), embedding_dim, name="query_positions")
    return _perceiver_io(
        _text(embeddings, max_length, embedding_dim),
        TokenQueries(positions),
        TiedLogits(embeddings.table),
        (encoder, decoder, attention),
        start,
    )


def bert_masked_lm(
    vocab_size: Width,
    max_length: Annotated[Width, INPUT_SIZE],
    width: Width,
    layers: LatentStackSettings,
    attention: AttentionForm = AttentionForm(),
) -> Blueprint:
    """BERT (1810.04805) for masked language modelling, the baseline of Perceiver IO, section 4.1.

    `width` is that of embeddings and layers; BERT's layers have `norm="post"`.
    """
    model = BERT(
        Embeddings(vocab_size, width), LearnedPositions((max_length,), width), layers, attention
    )
    return Blueprint(model, jax.ShapeDtypeStruct((1, max_length), jnp.int32))


def perceiver_io_text_classifier(
    num_classes: Width,
    vocab_size: Width,
    max_length: Annotated[Width, INPUT_SIZE],
    embedding_dim: Width,
    encoder: EncoderSettings,
    decoder: DecoderSettings = DecoderSettings(),
    attention: AttentionForm = AttentionForm(),
    start: Start = "random",
) -> Blueprint:
    """Perceiver IO for text classification, with one learned query as wide as the latents."""
    return _perceiver_io(
        _text(Embeddings(vocab_size, embedding_dim), max_length, embedding_dim),
        LearnedQueries(1, encoder.latent_dim),
        ClassLogits(num_classes),
        (encoder, decoder, attention),
        start,
    )


def perceiver_io_sentence_classifier(
    num_classes: Width,
    vocab_size: Width,
    max_length: Annotated[Width, INPUT_SIZE],
    embedding_dim: Width,
    head_dim: Width,
    encoder: EncoderSettings,
    decoder: DecoderSettings = DecoderSettings(),
    attention: AttentionForm = AttentionForm(),
    start: Start = "random",
) -> Blueprint:
    """Perceiver IO fine-tuned on sentences or pairs (Perceiver IO, section 4.1): two layers, tanh.

    The query is as wide as those of `perceiver_io_masked_lm`, so that its decoder can be loaded,
    too. A score is a single class. `head_dim` is the width of the hidden layer.
    """
    return _perceiver_io(
        _text(Embeddings(vocab_size, embedding_dim), max_length, embedding_dim),
        LearnedQueries(1, embedding_dim),
        TanhHead(num_classes, head_dim),
        (encoder, decoder, attention),
        start,
    )


def perceiver_io_multitask(
    num_tasks: Width,
    num_outputs: Width,
    told_by: Literal["query", "shared_token", "task_token"],
    vocab_size: Width,
    max_length: Annotated[Width, INPUT_SIZE],
    embedding_dim: Width,
    head_dim: Width,
    encoder: EncoderSettings,
    decoder: DecoderSettings = DecoderSettings(),
    attention: AttentionForm = AttentionForm(),
    start: Start = "random",
) -> Blueprint:
    """Perceiver IO for several tasks on sentences and pairs (Perceiver IO, section 4.1).

    The paper's three ways, `told_by`: a learned query for each task (`query`); or the query of the
    first token, which is the same for all tasks (`shared_token`), or one of the task's own
    (`task_token`). Each task has a head with `num_outputs` outputs, of which it may use fewer.
    """
    text = _text(Embeddings(vocab_size, embedding_dim), max_length, embedding_dim)
    own_tokens = Embeddings(num_tasks, embedding_dim, name="task_tokens")
    positions = LearnedPositions((max_length,), embedding_dim, name="query_positions")
    spec = {"ids": text.spec, "task": jax.ShapeDtypeStruct((1,), jnp.int32)}
    return _perceiver_io(
        Inputs(TextOfTask(text.adapter, own_tokens if told_by == "task_token" else None), spec),
        TaskQueries(num_tasks, embedding_dim) if told_by == "query" else FirstTokenQuery(positions),
        TaskHeads(num_tasks, num_outputs, head_dim),
        (encoder, decoder, attention),
        start,
    )


def perceiver_io_tagger(
    num_classes: Width,
    vocab_size: Width,
    max_length: Annotated[Width, INPUT_SIZE],
    embedding_dim: Width,
    encoder: EncoderSettings,
    decoder: DecoderSettings = DecoderSettings(),
    attention: AttentionForm = AttentionForm(),
    start: Start = "random",
) -> Blueprint:
    """Perceiver IO for the classes of tokens, at all of them or at those given as `query`.

    It is `perceiver_io_masked_lm` with another output layer.
    """
    positions = LearnedPositions((max_length,), embedding_dim, name="query_positions")
    return _perceiver_io(
        _text(Embeddings(vocab_size, embedding_dim), max_length, embedding_dim),
        TokenQueries(positions),
        PositionProjection(num_classes, name="tags"),
        (encoder, decoder, attention),
        start,
    )


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
    return _perceiver_io(
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
    return _perceiver_io(
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


class Part(NamedTuple):
    """The parts of an autoencoder for one modality, and the shape and dtype of one example."""

    tokens: Modality
    queries: QueryModule
    output: PositionProjection | ClassLogits
    spec: jax.ShapeDtypeStruct


def video_part(
    shape: Annotated[tuple[Side, Side, Side], INPUT_SIZE],
    patch_size: Size,
    resolution: Annotated[tuple[Side, Side, Side], UNSEEN],
    num_bands: Width,
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
    num_samples: Annotated[Length, INPUT_SIZE, UNSEEN], samples_per_patch: Width, num_bands: Width
) -> Part:
    """Audio [B, num_samples, 1] in patches, decoded patch by patch."""
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


def label_part(num_classes: Annotated[Width, INPUT_SIZE], query_dim: Width) -> Part:
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
    output_dim: Width,
    encoder: EncoderSettings,
    decoder: DecoderSettings = DecoderSettings(),
    attention: AttentionForm = AttentionForm(),
) -> Blueprint:
    """Perceiver IO as an autoencoder of video, audio and class label (Perceiver IO, section 4.3).

    Any of the three may be missing from the input; all can be decoded. `output_dim` is the width to
    which decoded vectors are projected before each modality's own output layer.
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
    """Inputs of token ids with learned positions."""
    positions = LearnedPositions((max_length,), embedding_dim)
    spec = jax.ShapeDtypeStruct((1, max_length), jnp.int32)
    return Inputs(TextTokens(embeddings, positions), spec)


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
    start: Start = "random",
) -> Blueprint:
    """A Perceiver IO model from the parts that differ between models; `core` is common to all."""
    encoder, decoder, form = core
    model = PerceiverIO(
        inputs=inputs.adapter,
        encoder=SingleReadEncoder(encoder, form),
        queries=queries,
        decoder=Decoder(decoder, form),
        outputs=outputs,
    )
    return Blueprint(model, inputs.spec, STARTS[start], inputs.features)


ARCHITECTURES = {
    "perceiver_io_classifier": perceiver_io_classifier,
    "perceiver_classifier": perceiver_classifier,
    "perceiver_io_masked_lm": perceiver_io_masked_lm,
    "bert_masked_lm": bert_masked_lm,
    "perceiver_io_text_classifier": perceiver_io_text_classifier,
    "perceiver_io_sentence_classifier": perceiver_io_sentence_classifier,
    "perceiver_io_multitask": perceiver_io_multitask,
    "perceiver_io_tagger": perceiver_io_tagger,
    "perceiver_io_flow": perceiver_io_flow,
    "perceiver_io_flow_separate": perceiver_io_flow_separate,
    "perceiver_io_flow_conv": perceiver_io_flow_conv,
    "perceiver_io_flow_matched": perceiver_io_flow_matched,
    "perceiver_io_autoencoder": perceiver_io_autoencoder,
    "convnet_classifier": convnet_classifier,
    "resnet_classifier": resnet_classifier,
    "vit_classifier": vit_classifier,
    "transformer_classifier": transformer_classifier,
    "coatnet_classifier": coatnet_classifier,
}
