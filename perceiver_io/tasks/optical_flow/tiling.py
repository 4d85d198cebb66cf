"""Optical flow of images of any size from a model of fixed size, tile by tile.

As in the published evaluations on Sintel and KITTI, overlapping tiles are blended with weights by
the distance to the tile's edge, where the model has the least context.
"""

import functools
import itertools
from collections.abc import Iterable, Iterator, Sequence

import jax
import numpy as np
from jaxtyping import Array, Float, PyTree, UInt8

from perceiver_io.config.annotations import Size
from perceiver_io.errors import UserError
from perceiver_io.models.architectures import Architecture
from perceiver_io.tasks.batches import Advance, check_batch_size, each_in_batches, ignore

_USUAL_OVERLAP = 20

Frame = UInt8[np.ndarray, "H W 3"] | Float[np.ndarray, "H W 3"]


def tiles(height: int, width: int, tile_size: Size, overlap: int) -> list[tuple[int, int]]:
    """(top, left) of as few tiles of `tile_size` = (height, width) as needed to cover an image.

    Adjacent tiles overlap by `overlap` pixels, the last ones in a row or column by as much as
    needed to end at the image's edge. An image smaller than a tile has a single tile, at 0.
    """
    tops, lefts = (
        [*range(0, whole - side, side - overlap), max(whole - side, 0)]
        for whole, side in zip((height, width), tile_size, strict=True)
    )
    return [(top, left) for top in tops for left in lefts]


def blending_weights(tile_size: Size) -> Float[np.ndarray, "H W"]:
    """Distance in pixels from each pixel of a tile to just outside the nearest edge."""
    rows, columns = (np.minimum(np.arange(side) + 1, side - np.arange(side)) for side in tile_size)
    return np.minimum(rows[:, None], columns).astype(np.float32)


class TiledFlow:
    """Flow between frames of any size; only one program is compiled for all sizes."""

    def __init__(
        self,
        model: Architecture,
        params: PyTree,
        state: PyTree,
        *,
        tile_size: Size,
        batch_size: int,
        overlap: int | None = None,
    ):
        """Prepares the model, which is compiled on the first call.

        Args:
            model: maps `inputs` [B, 2, h, w, 3] from -1 to 1 to flow [B, h, w, 2] in pixels.
            params: its parameters.
            state: its state.
            tile_size: (h, w), the size of the model's frames.
            batch_size: tiles at a time; the last batch is padded.
            overlap: least overlap of adjacent tiles in pixels; None: 20, as in the published
                evaluations, or half of the tile's smaller side if that is less.

        Raises UserError for an overlap that is negative or as large as a tile.
        """
        check_batch_size(batch_size)
        if overlap is None:
            overlap = min(_USUAL_OVERLAP, min(tile_size) // 2)
        if not 0 <= overlap < min(tile_size):
            raise UserError(
                f"overlap={overlap} pixels must be at least 0 and less than the smaller side of a "
                f"tile of {tile_size[0]}x{tile_size[1]}."
            )
        self._model, self._params, self._state = model, params, state
        self._tile_size, self._batch_size, self._overlap = tuple(tile_size), batch_size, overlap
        self._weights = blending_weights(tile_size)

    def __call__(
        self, first: Frame, second: Frame, advance: Advance = ignore
    ) -> Float[np.ndarray, "H W 2"]:
        """The flow from `first` to `second` in pixels, with channels as the model has them.

        Args:
            first: uint8 from 0 to 255, or floating point from -1 to 1.
            second: a frame of the same size.
            advance: called after each batch with the number of its tiles.

        Raises UserError for frames of different sizes, or of other types or values.
        """
        return next(self.video((first, second), advance))

    def video(
        self, frames: Iterable[Frame], advance: Advance = ignore
    ) -> Iterator[Float[np.ndarray, "H W 2"]]:
        """The flow from each frame to the next, as in `__call__`; a batch may span several pairs.

        Frames are read as needed, and only those of one batch are kept in memory.
        """
        pairs, again = itertools.tee(itertools.pairwise(frames))
        flows = each_in_batches(
            functools.partial(_flow, self._model, self._params, self._state),
            itertools.chain.from_iterable(itertools.starmap(self._tiles_of, pairs)),
            self._batch_size,
            advance,
        )
        for first, _ in again:
            corners = self.corners(first.shape[:2])
            of_pair = list(itertools.islice(flows, len(corners)))
            yield self._blended(of_pair, corners, first.shape[:2])

    def corners(self, size: Size) -> list[tuple[int, int]]:
        """(top, left) of the tiles of frames of `size` = (height, width)."""
        return tiles(*size, self._tile_size, self._overlap)

    def middle_tile(
        self, first: Frame, second: Frame
    ) -> tuple[Float[np.ndarray, "2 h w 3"], tuple[slice, slice]]:
        """The tile nearest to the centre of two frames, prepared for the model, and where it is."""
        size = _common_size(first, second)

        def distance(corner: tuple[int, int]) -> float:
            sides = zip(corner, self._tile_size, size, strict=True)
            return sum(abs(start + tile / 2 - whole / 2) for start, tile, whole in sides)

        corners = self.corners(size)
        index = min(range(len(corners)), key=lambda index: distance(corners[index]))
        tile = next(itertools.islice(self._tiles_of(first, second), index, None))
        return tile, self._cut(*corners[index])

    def _tiles_of(self, first: Frame, second: Frame) -> Iterator[Float[np.ndarray, "2 h w 3"]]:
        size = _common_size(first, second)
        # Images smaller than a tile are padded with the pixels of their edge.
        beyond = [
            (0, max(side - whole, 0)) for whole, side in zip(size, self._tile_size, strict=True)
        ]
        pair = np.stack([np.pad(_checked(x), [*beyond, (0, 0)], "edge") for x in (first, second)])
        for corner in self.corners(size):
            yield pair[:, *self._cut(*corner)]

    def _cut(self, top: int, left: int) -> tuple[slice, slice]:
        height, width = self._tile_size
        return slice(top, top + height), slice(left, left + width)

    def _blended(
        self, flows: Sequence[np.ndarray], corners: Sequence[tuple[int, int]], size: Size
    ) -> Float[np.ndarray, "H W 2"]:
        """The weighted mean over the tiles at each pixel."""
        height, width = size
        covered = tuple(map(max, size, self._tile_size))
        total = np.zeros((*covered, 2), np.float32)
        weight = np.zeros((*covered, 1), np.float32)
        for flow, corner in zip(flows, corners, strict=True):
            total[self._cut(*corner)] += flow * self._weights[..., None]
            weight[self._cut(*corner)] += self._weights[..., None]
        return (total / weight)[:height, :width]


@functools.partial(jax.jit, static_argnums=0)
def _flow(
    model: Architecture, params: PyTree, state: PyTree, inputs: Array
) -> Float[Array, "B h w 2"]:
    return model.apply(params, state, None, inputs=inputs, is_training=False)[0]


def _common_size(first: Frame, second: Frame) -> Size:
    for frame in (first, second):
        if frame.ndim != 3 or frame.shape[-1] != 3 or not frame.size:
            raise UserError(
                f"A frame must have the shape (height, width, 3), but one has {frame.shape}."
            )
    if first.shape != second.shape:
        raise UserError(
            f"Flow needs frames of the same size, but they have {first.shape[0]}x"
            f"{first.shape[1]} and {second.shape[0]}x{second.shape[1]} pixels. Resize or crop one "
            "of them."
        )
    return first.shape[:2]


def scaled(frames: Array | np.ndarray) -> Array | np.ndarray:
    """Scales bytes to the range of models of optical flow, from -1 to 1."""
    return frames.astype(np.float32) / 127.5 - 1


def _checked(frame: Frame) -> Float[np.ndarray, "H W 3"]:
    """The frame from -1 to 1. Raises UserError for other types and values."""
    if frame.dtype == np.uint8:
        return scaled(frame)
    if not np.issubdtype(frame.dtype, np.floating):
        raise UserError(
            f"A frame has the type {frame.dtype}, but must be uint8 from 0 to 255, or floating "
            "point from -1 to 1."
        )
    if not np.abs(frame).max() <= 1:
        raise UserError(
            f"A floating-point frame has values from {frame.min()} to {frame.max()}, but they "
            "must lie between -1 and 1: scale it, or give it as uint8 from 0 to 255."
        )
    return frame.astype(np.float32)
