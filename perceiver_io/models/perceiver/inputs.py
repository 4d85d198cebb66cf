"""Input adapters: a raw modality -> Tokens.

An adapter is called as `adapter(inputs, mask, is_training)`; the mask [B, M] is over tokens.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PyTree

from perceiver_io.errors import UserError
from perceiver_io.models.batch_norm import batch_norm
from perceiver_io.models.perceiver.encoder import InputAdapter
from perceiver_io.models.perceiver.maps import PlacedInputs
from perceiver_io.models.perceiver.positions import Positions, grid_of
from perceiver_io.models.perceiver.tokens import Tokens, dense_positions
from perceiver_io.models.weights import BIAS_INIT, WEIGHT_INIT


class Inputs(NamedTuple):
    """An input adapter, and what one example is that it takes."""

    adapter: InputAdapter
    spec: PyTree[jax.ShapeDtypeStruct]


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
        return hk.Linear(self.channels, w_init=WEIGHT_INIT, b_init=BIAS_INIT, name=self.name)(x)


class ConvStem(hk.Module):
    """7x7 convolution of stride 2, batch norm, ReLU, 3x3 max pool of stride 2: ResNet's start.

    Args:
        channels: width of the result.
        pytorch_padding: whether the image is padded alike on all sides and the pool drops what
            does not fill it, as the published PyTorch models do. It shifts the features by a pixel
            and leaves one row and column less.
    """

    def __init__(self, channels: int, pytorch_padding: bool = False, name: str = "conv_stem"):
        super().__init__(name=name)
        self._channels = channels
        self._conv_padding = ((3, 3), (3, 3)) if pytorch_padding else "SAME"
        self._pool_padding = "VALID" if pytorch_padding else "SAME"

    def __call__(self, x: Float[Array, "B H W C"], is_training: bool) -> Float[Array, "B h w F"]:
        """An image to a quarter of its height and width, rounded up."""
        dtype = x.dtype
        conv = hk.Conv2D(
            self._channels, 7, stride=2, padding=self._conv_padding, with_bias=False, name="conv"
        )
        x = conv(x)
        norm = batch_norm("batch_norm")
        x = jax.nn.relu(norm(x.astype(jnp.float32), is_training).astype(dtype))
        return hk.max_pool(x, (1, 3, 3, 1), (1, 2, 2, 1), self._pool_padding)


@dataclass(frozen=True)
class Patches:
    """Non-overlapping patches, each flattened in the order of the axes, channels last.

    patch_size: side along each axis.
    """

    patch_size: tuple[int, ...]

    def __call__(self, x: Float[Array, "B *axes C"], is_training: bool) -> Array:
        """[B, H, W, C] -> [B, H/p, W/q, p q C], likewise for any number of axes.

        Raises UserError where patches do not fit.
        """
        del is_training
        batch, *size, channels = x.shape
        if any(side % patch for side, patch in zip(size, self.patch_size, strict=True)):
            raise UserError(
                f"An input of {_by(size)} does not divide into patches of "
                f"{_by(self.patch_size)}: resize or pad it to a multiple, or change patch_size."
            )
        counts = [side // patch for side, patch in zip(size, self.patch_size, strict=True)]
        sides = [side for pair in zip(counts, self.patch_size, strict=True) for side in pair]
        axes = len(size)
        places, insides = range(1, 2 * axes, 2), range(2, 2 * axes + 1, 2)
        x = x.reshape(batch, *sides, channels).transpose(0, *places, *insides, 2 * axes + 1)
        return x.reshape(batch, *counts, -1)


@dataclass(frozen=True)
class LinearPatches:
    """Patches, each through one linear layer."""

    patch_size: tuple[int, int]
    channels: int

    def __call__(self, x: Float[Array, "B H W C"], is_training: bool) -> Float[Array, "B h w F"]:
        """[B, H, W, C] -> [B, H/p, W/q, channels]."""
        patches = Patches(self.patch_size)(x, is_training)
        return PointwiseConv(self.channels, name="patch_embedding")(patches, is_training)


class FramePairs(hk.Module):
    """Each pixel of two frames with its neighbours, through one linear layer (Perceiver IO, 4.2).

    As a linear layer over the neighbourhoods of both frames, side by side, is a convolution of the
    frames' stacked channels, no neighbourhood is ever copied out.

    Args:
        neighbourhood: side of the square around each pixel, zeros beyond the borders.
        channels: width of the result.
    """

    def __init__(self, neighbourhood: int, channels: int, name: str = "frame_pairs"):
        super().__init__(name=name)
        self._neighbourhood, self._channels = neighbourhood, channels

    def __call__(self, x: Float[Array, "B 2 H W C"], is_training: bool) -> Float[Array, "B H W F"]:
        """[B, 2, H, W, C] -> [B, H, W, channels]."""
        del is_training
        stacked = jnp.concatenate([x[:, 0], x[:, 1]], axis=-1)
        return neighbourhoods(self._channels, self._neighbourhood)(stacked)


def neighbourhoods(channels: int, side: int) -> hk.Conv2D:
    """A linear layer of the square of this side around each pixel."""
    return hk.Conv2D(channels, side, w_init=WEIGHT_INIT, b_init=BIAS_INIT, name="conv")


class SeparateFrames(hk.Module):
    """Each pixel of each frame with its neighbours, through one linear layer (Perceiver IO, 4.2).

    Args:
        neighbourhood: side of the square around each pixel, zeros beyond the borders.
        channels: width of the result.
    """

    def __init__(self, neighbourhood: int, channels: int, name: str = "separate_frames"):
        super().__init__(name=name)
        self._neighbourhood, self._channels = neighbourhood, channels

    def __call__(self, x: Float[Array, "B T H W C"], is_training: bool) -> Array:
        """[B, T, H, W, C] -> [B, T, H, W, channels]."""
        del is_training
        conv = neighbourhoods(self._channels, self._neighbourhood)
        return conv(x.reshape(-1, *x.shape[2:])).reshape(*x.shape[:-1], self._channels)


@dataclass(frozen=True)
class StackedFrames:
    """Frames of a pair stacked by their channels, and then through a stem of images.

    stem: maps [B, H, W, C] to [B, h, w, F].
    """

    stem: Callable[[Array, bool], Array]

    def __call__(self, x: Float[Array, "B T H W C"], is_training: bool) -> Float[Array, "B h w F"]:
        """[B, T, H, W, C] -> the stem's features."""
        stacked = jnp.moveaxis(x, 1, 3)
        return self.stem(stacked.reshape(*stacked.shape[:3], -1), is_training)


class MatchedFrames(hk.Module):
    """Features of two frames, and how well each place of the first matches those around it.

    The paper's models find matches by attention alone; this one is given them, and so learns from
    far fewer pairs. One convolution is shared by both frames; their features and correlations (as
    in FlowNet, 1504.06852) go through another and residual blocks of two 3x3 convolutions.

    Args:
        channels: width of the result; features of one frame have half of it.
        radius: of the square of places to compare with, at half the frames' resolution.
        num_blocks: residual blocks.
    """

    def __init__(self, channels: int, radius: int, num_blocks: int, name: str = "matched_frames"):
        super().__init__(name=name)
        self._channels, self._radius, self._num_blocks = channels, radius, num_blocks

    def __call__(self, x: Float[Array, "B 2 H W C"], is_training: bool) -> Float[Array, "B h w F"]:
        """[B, 2, H, W, C] -> [B, H/4, W/4, channels]."""
        conv = partial(self._conv, is_training=is_training)
        frames = x.reshape(-1, *x.shape[2:])
        frames = conv(frames, "frame", self._channels // 2, side=7, stride=2)
        frames = frames.reshape(*x.shape[:2], *frames.shape[1:])
        first, second = frames[:, 0], frames[:, 1]
        x = jnp.concatenate([first, second, correlations(first, second, self._radius)], axis=-1)
        x = jax.nn.relu(conv(x, "pair", self._channels, stride=2))
        for i in range(self._num_blocks):
            inner = jax.nn.relu(conv(x, f"block_{i}_first", self._channels))
            x = jax.nn.relu(x + conv(inner, f"block_{i}_second", self._channels))
        return x

    def _conv(
        self, x: Array, name: str, channels: int, side: int = 3, stride: int = 1, *, is_training
    ) -> Array:
        dtype = x.dtype
        x = hk.Conv2D(channels, side, stride=stride, with_bias=False, name=name)(x)
        return batch_norm(f"{name}_norm")(x.astype(jnp.float32), is_training).astype(dtype)


def correlations(
    first: Float[Array, "B H W C"], second: Float[Array, "B H W C"], radius: int
) -> Float[Array, "B H W K"]:
    """Cosines between each place's features and those around the same place in another array.

    K = (2 radius + 1)^2 places, row by row; 0 beyond the borders.
    """
    unit = lambda x: x * jax.lax.rsqrt(jnp.square(x).sum(-1, keepdims=True) + 1e-6)  # noqa: E731
    batch, height, width, _ = first.shape
    first, second = unit(first), jnp.pad(unit(second), ((0, 0), *2 * ((radius, radius),), (0, 0)))

    def along(rows):
        # All pairs of columns as one product; a row longer by one holds a diagonal in each column.
        pairs = jnp.einsum("bhwc,bhvc->bhwv", first, rows).reshape(batch, height, -1)
        skewed = jnp.pad(pairs, ((0, 0), (0, 0), (0, width))).reshape(batch, height, width, -1)
        return skewed[..., : 2 * radius + 1]

    steps = range(2 * radius + 1)
    return jnp.concatenate([along(second[:, i : i + height]) for i in steps], axis=-1)


@dataclass(frozen=True)
class ArrayTokens:
    """An array of any number of axes (image, video, sound, voxels), a token for each place.

    stem: maps [B, *axes, C] to [B, *axes, F]; may shrink the axes.
    positions: encodes the places that the stem leaves.
    """

    stem: Callable[[Array, bool], Array]
    positions: Positions

    def __call__(
        self, inputs: Float[Array, "B *axes C"], mask: Bool[Array, "B M"] | None, is_training: bool
    ) -> Tokens:
        """The tokens, axes flattened in array order."""
        return self.with_places(inputs, mask, is_training)[0]

    def with_places(
        self, inputs: Float[Array, "B *axes C"], mask: Bool[Array, "B M"] | None, is_training: bool
    ) -> tuple[Tokens, Int[np.ndarray, "*grid"]]:
        """The tokens, and the number of each place of the grid that the stem leaves."""
        x = self.stem(inputs, is_training)
        batch, *shape, channels = x.shape
        positions = grid_of(self.positions, tuple(shape))
        tokens = Tokens(x.reshape(batch, -1, channels), positions, mask)
        return tokens, np.arange(math.prod(shape)).reshape(shape)


class ReadyTokens:
    """Inputs that are features [B, M, C] already, positions included."""

    def __call__(
        self, inputs: Float[Array, "B M C"], mask: Bool[Array, "B M"] | None, is_training: bool
    ) -> Tokens:
        """The features as tokens."""
        del is_training
        return Tokens(inputs, mask=mask)

    def with_places(
        self, inputs: Float[Array, "B M C"], mask: Bool[Array, "B M"] | None, is_training: bool
    ) -> tuple[Tokens, Int[np.ndarray, " M"]]:
        """The tokens in their order."""
        return self(inputs, mask, is_training), np.arange(inputs.shape[1])


@dataclass(frozen=True)
class PermutedTokens:
    """Another adapter's tokens in one fixed random order (permuted ImageNet, Perceiver, 4.1).

    Tokens keep their positions, as in the paper: a model of sets cannot tell the difference, one
    that relies on the order of its inputs can.
    """

    adapter: PlacedInputs
    seed: int

    def __call__(self, inputs: Array, mask: Bool[Array, "B M"] | None, is_training: bool) -> Tokens:
        """The adapter's tokens, shuffled."""
        return self.with_places(inputs, mask, is_training)[0]

    def with_places(
        self, inputs: Array, mask: Bool[Array, "B M"] | None, is_training: bool
    ) -> tuple[Tokens, Int[np.ndarray, "*grid"]]:
        """The adapter's tokens, shuffled, and where in its grid each of them is from."""
        tokens, places = self.adapter.with_places(inputs, mask, is_training)
        order = np.random.default_rng(self.seed).permutation(tokens.features.shape[1])
        return jax.tree.map(
            lambda x: x[:, order], tokens._replace(positions=dense_positions(tokens.positions))
        ), np.argsort(order)[places]


def _by(size) -> str:
    return "x".join(map(str, size))
