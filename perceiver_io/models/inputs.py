"""Input adapters: a raw modality -> Tokens.

An adapter is called as `adapter(inputs, mask, is_training)`; the mask [B, M] is over tokens.
"""

from collections.abc import Callable
from dataclasses import dataclass

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from perceiver_io.errors import UserError
from perceiver_io.models.blocks import WEIGHT_INIT
from perceiver_io.models.positions import Positions
from perceiver_io.models.tokens import Tokens


class RawValues:
    """The values as they are: pixels, samples, points of any array."""

    def __call__(self, x: Float[Array, "B *axes C"], is_training: bool) -> Array:
        """Returns `x`."""
        del is_training
        return x


@dataclass(frozen=True)
class PointwiseConv:
    """A 1x1 convolution: each pixel through one linear layer."""

    channels: int
    name: str = "conv_1x1"

    def __call__(self, x: Float[Array, "B *axes C"], is_training: bool) -> Array:
        """[B, ..., C] -> [B, ..., channels]."""
        del is_training
        return hk.Linear(self.channels, w_init=WEIGHT_INIT, name=self.name)(x)


class ConvStem(hk.Module):
    """7x7 convolution of stride 2, batch norm, ReLU, 3x3 max pool of stride 2: ResNet's start."""

    def __init__(self, channels: int, name: str = "conv_stem"):
        super().__init__(name=name)
        self._channels = channels

    def __call__(self, x: Float[Array, "B H W C"], is_training: bool) -> Float[Array, "B h w F"]:
        """An image to a quarter of its height and width, rounded up."""
        dtype = x.dtype
        x = hk.Conv2D(self._channels, 7, stride=2, with_bias=False, name="conv")(x)
        norm = hk.BatchNorm(
            create_scale=True, create_offset=True, decay_rate=0.9, eps=1e-5, name="batch_norm"
        )
        x = jax.nn.relu(norm(x.astype(jnp.float32), is_training).astype(dtype))
        return hk.max_pool(x, (1, 3, 3, 1), (1, 2, 2, 1), "SAME")


@dataclass(frozen=True)
class Patches:
    """Non-overlapping patches, each flattened in the order rows, columns, channels."""

    patch_size: tuple[int, int]

    def __call__(self, x: Float[Array, "B H W C"], is_training: bool) -> Float[Array, "B h w F"]:
        """[B, H, W, C] -> [B, H/p, W/q, p q C]; raises UserError where patches do not fit."""
        del is_training
        batch, *size, channels = x.shape
        (rows, row_rest), (columns, column_rest) = map(divmod, size, self.patch_size)
        if row_rest or column_rest:
            raise UserError(
                f"An image of {size[0]}x{size[1]} pixels does not divide into patches of "
                f"{self.patch_size[0]}x{self.patch_size[1]}: resize or pad it to a multiple, "
                "or change patch_size."
            )
        height, width = self.patch_size
        x = x.reshape(batch, rows, height, columns, width, channels)
        return x.transpose(0, 1, 3, 2, 4, 5).reshape(batch, rows, columns, -1)


@dataclass(frozen=True)
class LinearPatches:
    """Patches, each through one linear layer."""

    patch_size: tuple[int, int]
    channels: int

    def __call__(self, x: Float[Array, "B H W C"], is_training: bool) -> Float[Array, "B h w F"]:
        """[B, H, W, C] -> [B, H/p, W/q, channels]."""
        patches = Patches(self.patch_size)(x, is_training)
        return PointwiseConv(self.channels, name="patch_embedding")(patches, is_training)


def concatenate_positions(features: Array, positions: Array) -> Tokens:
    """Tokens whose positions are concatenated to their features."""
    return Tokens(features, positions)


def add_positions(features: Array, positions: Array) -> Tokens:
    """Tokens with positions added to features of the same width."""
    return Tokens(features + positions)


@dataclass(frozen=True)
class ArrayTokens:
    """An array of any number of axes (image, video, sound, voxels), a token for each place.

    stem: maps [B, *axes, C] to [B, *axes, F]; may shrink the axes.
    positions: encodes the places that the stem leaves.
    join: `concatenate_positions` or `add_positions`.
    """

    stem: Callable[[Array, bool], Array]
    positions: Positions
    join: Callable[[Array, Array], Tokens] = concatenate_positions

    def __call__(
        self, inputs: Float[Array, "B *axes C"], mask: Bool[Array, "B M"] | None, is_training: bool
    ) -> Tokens:
        """The tokens, axes flattened in array order."""
        x = self.stem(inputs, is_training)
        batch, *shape, channels = x.shape
        tokens = self.join(x.reshape(batch, -1, channels), self.positions.grid(tuple(shape)))
        return tokens._replace(mask=mask)


class ReadyTokens:
    """Inputs that are features [B, M, C] already, positions included."""

    def __call__(
        self, inputs: Float[Array, "B M C"], mask: Bool[Array, "B M"] | None, is_training: bool
    ) -> Tokens:
        """The features as tokens."""
        del is_training
        return Tokens(inputs, mask=mask)


@dataclass(frozen=True)
class PermutedTokens:
    """Another adapter's tokens in one fixed random order (permuted ImageNet, Perceiver, 4.1).

    Tokens keep their positions, as in the paper: a model of sets cannot tell the difference, one
    that relies on the order of its inputs can.
    """

    adapter: Callable[[Array, Array | None, bool], Tokens]
    seed: int

    def __call__(self, inputs: Array, mask: Bool[Array, "B M"] | None, is_training: bool) -> Tokens:
        """The adapter's tokens, shuffled."""
        tokens = self.adapter(inputs, mask, is_training)
        order = np.random.default_rng(self.seed).permutation(tokens.features.shape[1])
        return jax.tree.map(lambda x: x[:, order], tokens)
