"""Classifiers of images and point clouds."""

from typing import Annotated

from perceiver_io.config.annotations import UNSEEN, Choice, Repeats, Size, Width
from perceiver_io.errors import UserError
from perceiver_io.models.baselines import ResNet, TokenTransformer, ViT
from perceiver_io.models.builders.blueprint import Blueprint, perceiver_io
from perceiver_io.models.coatnet.coatnet import STEMS, CoAtNet, ConvolutionalStem, Stem
from perceiver_io.models.coatnet.settings import CoAtNetBlocks, Layout, stages
from perceiver_io.models.convnet import ConvNet
from perceiver_io.models.perceiver.images import IMAGE_INPUTS, ImageChannels, ImageSize, image_spec
from perceiver_io.models.perceiver.inputs import Inputs
from perceiver_io.models.perceiver.original import (
    InterleavedEncoder,
    InterleavedEncoderSettings,
    Perceiver,
)
from perceiver_io.models.perceiver.outputs import AveragePooledLogits, ClassLogits
from perceiver_io.models.perceiver.points import POINT_INPUTS
from perceiver_io.models.perceiver.queries import LearnedQueries
from perceiver_io.models.settings import (
    AttentionForm,
    DecoderSettings,
    EncoderSettings,
    LatentStackSettings,
    Remat,
)

ImagesOrPoints = Annotated[Inputs, Choice(IMAGE_INPUTS | POINT_INPUTS)]


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
    return perceiver_io(
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
