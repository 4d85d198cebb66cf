"""Input adapters: from a raw modality to Tokens.

An adapter is called as `adapter(inputs, mask, is_training)`, with a mask [B, M] over tokens.
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
from perceiver_io.models import sequence
from perceiver_io.models.batch_norm import batch_norm
from perceiver_io.models.perceiver.encoder import InputAdapter
from perceiver_io.models.perceiver.maps import PlacedInputs
from perceiver_io.models.perceiver.positions import Positions, grid_of
from perceiver_io.models.perceiver.tokens import Tokens, dense_positions
from perceiver_io.models.weights import BIAS_INIT, WEIGHT_INIT


def as_given(x: PyTree[Array]) -> PyTree[Array]:
    """Returns `x` unchanged."""
    return x


class Inputs(NamedTuple):
    """An input adapter, and the shape and dtype of one example.

    `features` maps inputs to what the adapter takes. It is computed in float32 whatever the model's
    compute dtype is, for inputs such as coordinates, of which every digit matters.
    """

    adapter: InputAdapter
    spec: PyTree[jax.ShapeDtypeStruct]
    features: Callable[[PyTree[Array]], PyTree[Array]] = as_given


class RawValues:
    """The raw values: pixels, audio samples, points."""

    def __call__(self, x: Float[Array, "B *axes C"], is_training: bool) -> Array:
        """Returns `x` unchanged."""
        del is_training
        return x


@dataclass(frozen=True)
class PointwiseConv:
    """A 1x1 convolution: a linear layer at each pixel."""

    channels: int
    name: str = "conv_1x1"

    def __call__(self, x: Float[Array, "B *axes C"], is_training: bool) -> Array:
        """[B, ..., C] -> [B, ..., channels]."""
        del is_training
        return hk.Linear(self.channels, w_init=WEIGHT_INIT, b_init=BIAS_INIT, name=self.name)(x)


class ConvStem(hk.Module):
    """The stem of a ResNet: 7x7 convolution, batch norm, ReLU, 3x3 max pool, both of stride 2.

    Args:
        channels: output width.
        pytorch_padding: whether to pad as the published PyTorch models do: symmetrically in the
            convolution, not at all in the pooling. Compared with SAME padding, this shifts the
            features by a pixel and leaves one row and one column fewer.
    """

    def __init__(self, channels: int, pytorch_padding: bool = False, name: str = "conv_stem"):
        super().__init__(name=name)
        self._channels = channels
        self._conv_padding = ((3, 3), (3, 3)) if pytorch_padding else "SAME"
        self._pool_padding = "VALID" if pytorch_padding else "SAME"

    def __call__(self, x: Float[Array, "B H W C"], is_training: bool) -> Float[Array, "B h w F"]:
        """Features at a quarter of the image's height and width, rounded up."""
        x, dtype = sequence.whole(x), x.dtype
        conv = hk.Conv2D(
            self._channels, 7, stride=2, padding=self._conv_padding, with_bias=False, name="conv"
        )
        x = conv(x)
        norm = batch_norm("batch_norm")
        x = jax.nn.relu(norm(x.astype(jnp.float32), is_training).astype(dtype))
        return sequence.whole(hk.max_pool(x, (1, 3, 3, 1), (1, 2, 2, 1), self._pool_padding))


@dataclass(frozen=True)
class Patches:
    """Non-overlapping patches, each flattened in array order, channels last.

    patch_size: size along each axis.
    """

    patch_size: tuple[int, ...]

    def __call__(self, x: Float[Array, "B *axes C"], is_training: bool) -> Array:
        """[B, H, W, C] -> [B, H/p, W/q, p q C], and likewise for any number of axes.

        Raises UserError if the input size is not a multiple of the patch size.
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
    """Patches with a linear layer applied to each."""

    patch_size: tuple[int, int]
    channels: int

    def __call__(self, x: Float[Array, "B H W C"], is_training: bool) -> Float[Array, "B h w F"]:
        """[B, H, W, C] -> [B, H/p, W/q, channels]."""
        patches = Patches(self.patch_size)(x, is_training)
        return PointwiseConv(self.channels, name="patch_embedding")(patches, is_training)


class FramePairs(hk.Module):
    """A linear layer over each pixel's neighbourhood in both frames (Perceiver IO, section 4.2).

    It is computed as a convolution over the frames' concatenated channels, so that no patches are
    extracted.

    Args:
        neighbourhood: side of the square around each pixel, zero-padded at the borders.
        channels: output width.
    """

    def __init__(self, neighbourhood: int, channels: int, name: str = "frame_pairs"):
        super().__init__(name=name)
        self._neighbourhood, self._channels = neighbourhood, channels

    def __call__(self, x: Float[Array, "B 2 H W C"], is_training: bool) -> Float[Array, "B H W F"]:
        """[B, 2, H, W, C] -> [B, H, W, channels]."""
        del is_training
        stacked = jnp.concatenate([x[:, 0], x[:, 1]], axis=-1)
        return neighbourhoods(self._channels, self._neighbourhood, stacked)


def neighbourhoods(channels: int, side: int, x: Float[Array, "B H W C"]) -> Array:
    """A linear layer over the square of this side around each pixel."""
    conv = hk.Conv2D(channels, side, w_init=WEIGHT_INIT, b_init=BIAS_INIT, name="conv")
    return sequence.whole(conv(sequence.whole(x)))


class SeparateFrames(hk.Module):
    """A linear layer over each pixel's neighbourhood, for each frame (Perceiver IO, section 4.2).

    Args:
        neighbourhood: side of the square around each pixel, zero-padded at the borders.
        channels: output width.
    """

    def __init__(self, neighbourhood: int, channels: int, name: str = "separate_frames"):
        super().__init__(name=name)
        self._neighbourhood, self._channels = neighbourhood, channels

    def __call__(self, x: Float[Array, "B T H W C"], is_training: bool) -> Array:
        """[B, T, H, W, C] -> [B, T, H, W, channels]."""
        del is_training
        frames = x.reshape(-1, *x.shape[2:])
        frames = neighbourhoods(self._channels, self._neighbourhood, frames)
        return frames.reshape(*x.shape[:-1], self._channels)


@dataclass(frozen=True)
class StackedFrames:
    """An image stem applied to frames whose channels are concatenated.

    stem: maps [B, H, W, T C] to [B, h, w, F].
    """

    stem: Callable[[Array, bool], Array]

    def __call__(self, x: Float[Array, "B T H W C"], is_training: bool) -> Float[Array, "B h w F"]:
        """[B, T, H, W, C] -> the stem's features [B, h, w, F]."""
        stacked = jnp.moveaxis(x, 1, 3)
        return self.stem(stacked.reshape(*stacked.shape[:3], -1), is_training)


class MatchedFrames(hk.Module):
    """Features of two frames, and how well each place of the first matches those around it.

    The paper's models find matches by attention alone; this one is given them, and so learns from
    far fewer pairs. One convolution is shared by both frames; their features and correlations (as
    in FlowNet, 1504.06852) go through another and residual blocks of two 3x3 convolutions.

    Args:
        channels: width of the result; features of one frame have half of it.
        radius: of the square neighbourhood to compare with, at half the frames' resolution.
        num_blocks: residual blocks.
    """

    def __init__(self, channels: int, radius: int, num_blocks: int, name: str = "matched_frames"):
        super().__init__(name=name)
        self._channels, self._radius, self._num_blocks = channels, radius, num_blocks

    def __call__(self, x: Float[Array, "B 2 H W C"], is_training: bool) -> Float[Array, "B h w F"]:
        """[B, 2, H, W, C] -> [B, H/4, W/4, channels]."""
        conv = partial(self._conv, is_training=is_training)
        x = sequence.whole(x)
        frames = x.reshape(-1, *x.shape[2:])
        frames = conv(frames, "frame", self._channels // 2, side=7, stride=2)
        frames = frames.reshape(*x.shape[:2], *frames.shape[1:])
        first, second = frames[:, 0], frames[:, 1]
        x = jnp.concatenate([first, second, correlations(first, second, self._radius)], axis=-1)
        x = jax.nn.relu(conv(x, "pair", self._channels, stride=2))
        for i in range(self._num_blocks):
            inner = jax.nn.relu(conv(x, f"block_{i}_first", self._channels))
            x = jax.nn.relu(x + conv(inner, f"block_{i}_second", self._channels))
        return sequence.whole(x)

    def _conv(
        self,
        x: Array,
        name: str,
        channels: int,
        side: int = 3,
        stride: int = 1,
        *,
        is_training: bool,
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

    def unit(x):
        return x * jax.lax.rsqrt(jnp.square(x).sum(-1, keepdims=True) + 1e-6)

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
    """One token for each element of an array of any rank (image, video, audio, voxels).

    stem: maps [B, *axes, C] to [B, *axes, F]; may reduce the axes.
    positions: encodes the positions on the stem's output grid.
    """

    stem: Callable[[Array, bool], Array]
    positions: Positions

    def __call__(
        self, inputs: Float[Array, "B *axes C"], mask: Bool[Array, "B M"] | None, is_training: bool
    ) -> Tokens:
        """The tokens, with axes flattened in array order."""
        return self.with_places(inputs, mask, is_training)[0]

    def with_places(
        self, inputs: Float[Array, "B *axes C"], mask: Bool[Array, "B M"] | None, is_training: bool
    ) -> tuple[Tokens, Int[np.ndarray, "*grid"]]:
        """The tokens, and the index of the token at each cell of the stem's output grid."""
        x = self.stem(inputs, is_training)
        batch, *shape, channels = x.shape
        positions = grid_of(self.positions, tuple(shape))
        tokens = Tokens(x.reshape(batch, -1, channels), positions, mask)
        return tokens, np.arange(math.prod(shape)).reshape(shape)


@dataclass(frozen=True)
class ReadyTokens:
    """Inputs that already are features [B, M, C], positions included.

    grid: the shape of the tokens' own grid; None for a set or a sequence.
    """

    grid: tuple[int, ...] | None = None

    def __call__(
        self, inputs: Float[Array, "B M C"], mask: Bool[Array, "B M"] | None, is_training: bool
    ) -> Tokens:
        """The features as tokens."""
        del is_training
        return Tokens(inputs, mask=mask)

    def with_places(
        self, inputs: Float[Array, "B M C"], mask: Bool[Array, "B M"] | None, is_training: bool
    ) -> tuple[Tokens, Int[np.ndarray, "*grid"]]:
        """The tokens, and their indices in order, on the grid."""
        places = np.arange(inputs.shape[1])
        return self(inputs, mask, is_training), places.reshape(self.grid or places.shape)


@dataclass(frozen=True)
class PermutedTokens:
    """Another adapter's tokens in a fixed random order (permuted ImageNet, Perceiver, 4.1).

    Tokens keep their position encodings, as in the paper: a permutation-invariant model cannot tell
    the difference, whereas one that relies on the order of its inputs can.
    """

    adapter: PlacedInputs
    seed: int

    def __call__(self, inputs: Array, mask: Bool[Array, "B M"] | None, is_training: bool) -> Tokens:
        """The adapter's tokens, shuffled."""
        return self.with_places(inputs, mask, is_training)[0]

    def with_places(
        self, inputs: Array, mask: Bool[Array, "B M"] | None, is_training: bool
    ) -> tuple[Tokens, Int[np.ndarray, "*grid"]]:
        """The adapter's tokens, shuffled, and the index of the token at each cell of its grid."""
        tokens, places = self.adapter.with_places(inputs, mask, is_training)
        order = np.random.default_rng(self.seed).permutation(tokens.features.shape[1])
        return jax.tree.map(
            lambda x: x[:, order], tokens._replace(positions=dense_positions(tokens.positions))
        ), np.argsort(order)[places]


def _by(size) -> str:
    return "x".join(map(str, size))
