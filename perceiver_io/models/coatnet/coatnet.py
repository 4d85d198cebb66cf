"""CoAtNet (Dai et al., 2106.04803): a stem S0, stages S1 to S4, and a head."""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import haiku as hk
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from perceiver_io.config.annotations import Side, Width
from perceiver_io.models.coatnet.mbconv import MBConv
from perceiver_io.models.coatnet.parts import activate, conv_3x3, norm
from perceiver_io.models.coatnet.relative_attention import RelativeTransformer
from perceiver_io.models.coatnet.relative_bias import Grid
from perceiver_io.models.coatnet.settings import CoAtNetBlocks, Stage
from perceiver_io.models.perceiver.inputs import LinearPatches
from perceiver_io.models.rematerialisation import rematerialised
from perceiver_io.models.settings import AttentionForm, Remat
from perceiver_io.models.weights import BIAS_INIT, WEIGHT_INIT


@dataclass(frozen=True)
class ConvolutionalStem:
    """S0: two 3x3 convolutions, the first with a stride of 2.

    widths: their output channels.
    """

    widths: tuple[Width, Width]

    stride = 2

    def __call__(
        self, x: Float[Array, "B H W C"], settings: CoAtNetBlocks, is_training: bool
    ) -> Float[Array, "B h w D"]:
        """Features at half the resolution."""
        x = conv_3x3(x, self.widths[0], stride=self.stride, name="stem_conv_1")
        x = norm(settings.conv_norm, x, is_training, name="stem_norm")
        x = activate(settings.activation, x, settings)
        return conv_3x3(x, self.widths[1], name="stem_conv_2")


@dataclass(frozen=True)
class PatchStem:
    """Linear patches, as in ViT (2010.11929), for ViT_REL of section 2.2."""

    patch_size: Side
    width: Width

    @property
    def stride(self) -> int:
        """By which the resolution is reduced."""
        return self.patch_size

    def __call__(
        self, x: Float[Array, "B H W C"], settings: CoAtNetBlocks, is_training: bool
    ) -> Float[Array, "B h w D"]:
        """One vector for each patch."""
        del settings
        return LinearPatches((self.patch_size,) * 2, self.width)(x, is_training)


Stem = ConvolutionalStem | PatchStem

STEMS = {"convolutions": ConvolutionalStem, "patches": PatchStem}


@dataclass(frozen=True)
class CoAtNet:
    """The network, for images of any size.

    num_classes: number of logits.
    image_size: height and width that tables of relative biases are made for; they are resized to
        those of the images given.
    stem, stages: S0, and S1 to S4.
    head_width: of a hidden layer with tanh before the logits; None for none.
    norm_first: whether the last norm precedes average pooling, rather than following it.
    blocks: settings of all blocks.
    form: how attention and depthwise convolutions are computed.
    remat: what the backward pass recomputes, as in `LatentStackSettings`.
    """

    num_classes: int
    image_size: Grid
    stem: Stem
    stages: Sequence[Stage]
    head_width: int | None
    norm_first: bool
    blocks: CoAtNetBlocks
    form: AttentionForm
    remat: Remat

    def __call__(self, inputs: Float[Array, "B H W C"], *, is_training: bool) -> Array:
        """Logits [B, num_classes]."""
        return self.decode(self.encode(inputs, is_training=is_training), is_training=is_training)

    def encode(self, inputs: Float[Array, "B H W C"], *, is_training: bool) -> Array:
        """Features [B, F], averaged over the image."""
        x = self.feature_maps(inputs, is_training=is_training)[-1]
        normalised = functools.partial(
            norm, self.blocks.attention_norm, is_training=is_training, name="norm",
            epsilon=self.blocks.attention_norm_epsilon,
        )  # fmt: skip
        return normalised(x).mean((1, 2)) if self.norm_first else normalised(x.mean((1, 2)))

    def decode(self, encoded: Float[Array, "B F"], *, is_training: bool) -> Array:
        """Logits [B, num_classes] from the features."""
        del is_training
        linear = functools.partial(hk.Linear, w_init=WEIGHT_INIT, b_init=BIAS_INIT)
        if self.head_width is not None:
            encoded = jnp.tanh(linear(self.head_width, name="head")(encoded))
        return linear(self.num_classes, name="logits")(encoded)

    def feature_maps(
        self, inputs: Float[Array, "B H W C"], *, is_training: bool
    ) -> list[Float[Array, "B h w F"]]:
        """The result of the stem, and of each stage."""
        maps = [self.stem(inputs, self.blocks, is_training)]
        grid = _reduced(self.image_size, self.stem.stride)
        depths = [stage.depth for stage in self.stages]
        # The drop rates of stochastic depth, for the blocks of each stage.
        rates = np.linspace(0, self.blocks.stochastic_depth, sum(depths), dtype=np.float32)
        parts = np.split(rates, np.cumsum(depths)[:-1])
        for i, (stage, part) in enumerate(zip(self.stages, parts, strict=True)):
            grid = _reduced(grid, stage.stride)
            with hk.name_scope(f"stage_{i + 1}"):
                maps.append(self._apply(stage, grid, maps[-1], part, is_training))
        return maps

    def _apply(
        self, stage: Stage, grid: Grid, x: Array, drop_rates: np.ndarray, is_training: bool
    ) -> Float[Array, "B h w F"]:
        """The blocks of a stage: the first one, and the others, compiled as one scanned block."""

        def block(stride, name):
            if stage.kind == "C":
                return MBConv(stage.width, stride, self.blocks, self.form, name)
            return RelativeTransformer(stage.width, stride, grid, self.blocks, self.form, name)

        def first(x, rate):
            return block(stage.stride, "first")(x, rate, is_training)

        def other(x, rate):
            return block(1, "block")(x, rate, is_training), None

        x = rematerialised(first, self.remat, is_scanned=False)(x, jnp.asarray(drop_rates[0]))
        if stage.depth > 1:
            stack = hk.experimental.layer_stack(stage.depth - 1, with_per_layer_inputs=True)
            other = rematerialised(other, self.remat, is_scanned=True)
            x, _ = stack(other)(x, jnp.asarray(drop_rates[1:]))
        return x


def _reduced(grid: Grid, stride: int) -> Grid:
    height, width = (math.ceil(side / stride) for side in grid)
    return height, width
