"""Networks that the Perceiver paper compares with: ResNet, ViT and a Transformer (section 4.1).

They read the same tokens as a Perceiver, positions included. ResNet and ViT see them row by row on
a grid, so that permuted tokens (`PermutedTokens`) make a permuted image; the Transformer sees a
set.
"""

import abc
from collections.abc import Sequence
from dataclasses import dataclass

import haiku as hk
import jax.numpy as jnp
from jaxtyping import Array, Float

from perceiver_io.models.batch_norm import BATCH_NORM, in_haiku_networks
from perceiver_io.models.layers import layer_norm
from perceiver_io.models.perceiver.encoder import LatentStack
from perceiver_io.models.perceiver.inputs import ConvStem, LinearPatches, PointwiseConv
from perceiver_io.models.perceiver.maps import PlacedInputs
from perceiver_io.models.perceiver.positions import LearnedPositions
from perceiver_io.models.settings import AttentionForm, LatentStackSettings
from perceiver_io.models.weights import BIAS_INIT, POSITION_INIT, WEIGHT_INIT, get_layer_norm


@dataclass(frozen=True)
class TokenClassifier(abc.ABC):
    """What the networks share.

    num_classes: number of logits.
    inputs: makes the tokens.
    """

    num_classes: int
    inputs: PlacedInputs

    def __call__(self, inputs: Float[Array, "B *axes C"], *, is_training: bool) -> Array:
        """Logits [B, num_classes]."""
        return self.decode(self.encode(inputs, is_training=is_training), is_training=is_training)

    @abc.abstractmethod
    def encode(
        self, inputs: Float[Array, "B *axes C"], *, is_training: bool
    ) -> Float[Array, "B F"]:
        """Features of the whole input."""

    def decode(self, encoded: Float[Array, "B F"], *, is_training: bool) -> Array:
        """Logits [B, num_classes] from the features."""
        del is_training
        logits = hk.Linear(self.num_classes, w_init=WEIGHT_INIT, b_init=BIAS_INIT, name="logits")
        return logits(encoded)

    def tokens(
        self, inputs: Float[Array, "B *axes C"], is_training: bool
    ) -> Float[Array, "B *grid D"]:
        """The tokens with their positions, in their own order, on the grid of their adapter."""
        tokens, places = self.inputs.with_places(inputs, None, is_training)
        joined = tokens.astype(inputs.dtype).joined()
        return joined.reshape(len(joined), *places.shape, joined.shape[-1])


@dataclass(frozen=True)
class ResNet(TokenClassifier):
    """ResNet (1512.03385), whose blocks are Haiku's.

    depths, widths: blocks of each stage, and their output channels; all stages but the first halve
        the resolution.
    bottleneck: whether blocks have 1x1, 3x3 and 1x1 convolutions, or two of 3x3. The first are
        narrower by a factor of 4; the stem is as wide as the first block's 3x3 convolutions.
    """

    depths: Sequence[int]
    widths: Sequence[int]
    bottleneck: bool

    def encode(
        self, inputs: Float[Array, "B *axes C"], *, is_training: bool
    ) -> Float[Array, "B F"]:
        """The last stage's features, averaged over the grid."""
        width = self.widths[0] // 4 if self.bottleneck else self.widths[0]
        x = ConvStem(width, name="stem")(self.tokens(inputs, is_training), is_training)
        with in_haiku_networks():
            for i, (depth, width) in enumerate(zip(self.depths, self.widths, strict=True)):
                stage = hk.nets.ResNet.BlockGroup(
                    width, depth, stride=2 if i else 1, bn_config=BATCH_NORM, resnet_v2=False,
                    bottleneck=self.bottleneck, use_projection=True, name=f"stage_{i + 1}",
                )  # fmt: skip
                x = stage(x, is_training, test_local_stats=False)
        return x.mean((1, 2))


@dataclass(frozen=True)
class ViT(TokenClassifier):
    """ViT (2010.11929): linear patches, learned positions, a class token, transformer layers.

    patch_size: height and width of the patches of the grid of tokens.
    width: of the layers.
    layers: the transformer layers.
    form: how attention is computed.
    """

    patch_size: tuple[int, int]
    width: int
    layers: LatentStackSettings
    form: AttentionForm

    def encode(
        self, inputs: Float[Array, "B *axes C"], *, is_training: bool
    ) -> Float[Array, "B F"]:
        """The class token after all layers."""
        tokens = self.tokens(inputs, is_training)
        x = LinearPatches(self.patch_size, self.width)(tokens, is_training)
        batch, *shape, width = x.shape
        positions = LearnedPositions(tuple(shape), width).grid(tuple(shape))
        first = hk.get_parameter("class_token", [width], init=POSITION_INIT)
        first = jnp.broadcast_to(first, (batch, 1, width))
        x = jnp.concatenate([first, x.reshape(batch, -1, width) + positions], axis=1)
        x = LatentStack(self.layers, self.form, name="layers")(x, is_training)
        return layer_norm(get_layer_norm("final_norm", width), x[:, 0])


@dataclass(frozen=True)
class TokenTransformer(TokenClassifier):
    """A Perceiver's latent transformer and head, on the tokens themselves.

    width: of the layers; tokens are projected to it.
    layers: the transformer layers.
    form: how attention is computed.
    """

    width: int
    layers: LatentStackSettings
    form: AttentionForm

    def encode(
        self, inputs: Float[Array, "B *axes C"], *, is_training: bool
    ) -> Float[Array, "B F"]:
        """The tokens after all layers, averaged."""
        tokens = self.tokens(inputs, is_training)
        x = PointwiseConv(self.width, name="embedding")(tokens, is_training)
        x = x.reshape(len(x), -1, self.width)
        return LatentStack(self.layers, self.form, name="layers")(x, is_training).mean(1)
