"""Tokens on a grid whose positions are sums, one of a row and one of a column.

Such tokens need not be joined with their positions to be normalised and multiplied. With
x_ij = [features_ij, rows_i + columns_j], a product of all tokens with a vector is one with the
features, one with the rows and one with the columns, added up; the mean and the variance that
normalise a token are sums of that kind too. A product over features is several times narrower
than one over features and positions.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from perceiver_io.models.fast.products import batched_product
from perceiver_io.models.perceiver.tokens import GridPositions

_FEW_ROWS = 16


class GridRows(NamedTuple):
    """A tall matrix X [M, D + W], a row for each place of a grid, that is never written out.

    The first D columns are own @ basis, of low rank; the last W are the places' deviations
    inverted, each in the column of the place's own column of the grid, zeros elsewhere.
    """

    own: Float[Array, "B M S"]
    basis: Float[Array, "1 S D"]
    inverse: Float[Array, "B R W"]

    @property
    def dtype(self) -> jnp.dtype:
        """Precision of the rows."""
        return self.own.dtype

    def key_logits(self, queries: Float[Array, "b 1 K O"]) -> Float[Array, "B 1 M O"]:
        """The rows as keys of one head, K = D + W: X queries."""
        queries, dim = queries[:, 0], self.basis.shape[-1]
        small, of_columns = self.basis @ queries[:, :dim], queries[:, dim:].astype(jnp.float32)
        logits = batched_product(self.own, small)
        # Added in the shape of the grid: XLA does not vectorise a sum of repeated rows otherwise.
        by_place = logits.reshape(len(logits), 1, *self.inverse.shape[1:], -1)
        by_place += of_columns[:, None, None] * self.inverse[:, None, ..., None].astype(jnp.float32)
        return by_place.reshape(len(logits), 1, *logits.shape[1:])

    def query_logits(self, keys: Float[Array, "b 1 N K"]) -> Float[Array, "B 1 N M"]:
        """The rows as queries of one head: keys X^T."""
        keys, dim = keys[:, 0], self.basis.shape[-1]
        small = keys[..., :dim] @ jnp.swapaxes(self.basis, 1, 2)
        of_columns = keys[..., dim:].astype(jnp.float32)
        logits = batched_product(small, jnp.swapaxes(self.own, 1, 2))
        by_place = logits.reshape(len(logits), 1, -1, *self.inverse.shape[1:])
        by_place += of_columns[:, None, :, None] * self.inverse[:, None, None].astype(jnp.float32)
        return by_place.reshape(*by_place.shape[:3], -1)

    def weighted(self, weights: Float[Array, "B 1 M O"]) -> Float[Array, "B 1 V O"]:
        """The rows as values of one head, V = D + W: X^T weights."""
        weights = weights[:, 0]
        small = batched_product(jnp.swapaxes(self.own, 1, 2), weights.astype(self.dtype))
        by_place = weights.reshape(len(weights), *self.inverse.shape[1:], -1)
        by_place *= self.inverse[..., None].astype(jnp.float32)
        # The rows of a chunk are few. Their sum written out takes a CPU a fortieth of `sum`'s time,
        # but its gradient memory for each of them.
        rows = by_place.shape[1]
        few = rows <= _FEW_ROWS
        of_columns = sum(by_place[:, row] for row in range(rows)) if few else by_place.sum(axis=1)
        dense = jnp.swapaxes(self.basis, 1, 2).astype(jnp.float32) @ small
        return jnp.concatenate([dense, of_columns], axis=1)[:, None]


def standardised(features: Float[Array, "B M C"], positions: GridPositions) -> GridRows:
    """The tokens [features, positions] with mean 0 and variance 1 each, as `GridRows` X.

    Multiplied by `lift` they are [B, M, C + P], as from a norm without scale and offset.
    """
    dtype, (batch, _, channels) = features.dtype, features.shape
    num_columns, dim = positions.columns.shape[2], channels + positions.width
    rows = positions.rows.astype(jnp.float32)
    columns = positions.columns[:, 0].astype(jnp.float32)
    features = features.reshape(batch, -1, num_columns, channels).astype(jnp.float32)
    total = rows.sum(-1)[:, :, None] + columns.sum(-1)[:, None]
    squares = jnp.square(rows).sum(-1)[:, :, None] + jnp.square(columns).sum(-1)[:, None]
    squares += 2 * rows @ jnp.swapaxes(columns, 1, 2)
    mean = (features.sum(-1) + total) / dim
    centred = features - mean[..., None]
    # Of the positions, too, the squares are taken around the mean of the whole token.
    squares += (positions.width * mean - 2 * total) * mean
    variance = (jnp.square(centred).sum(-1) + squares) / dim
    inverse = 1 / jnp.sqrt(variance + 1e-5)
    which_row = jnp.eye(rows.shape[1])[:, None]
    parts = (centred, -mean[..., None], jnp.broadcast_to(which_row, (*mean.shape, rows.shape[1])))
    own = jnp.concatenate(parts, axis=-1) * inverse[..., None]
    return GridRows(
        own.reshape(batch, -1, own.shape[-1]).astype(dtype),
        _basis(channels, positions.rows).astype(dtype),
        inverse.astype(dtype),
    )


def _basis(channels: int, rows: Float[Array, "1 R P"]) -> Float[Array, "1 S D"]:
    """What the parts of a row stand for: each feature; all position channels; a row's position."""
    width = rows.shape[-1]
    features, ones = jnp.eye(channels, channels + width), jnp.ones((1, width))
    of_positions = jnp.pad(jnp.concatenate([ones, rows[0]]), [(0, 0), (channels, 0)])
    return jnp.concatenate([features, of_positions])[None]


def lift(channels: int, positions: GridPositions) -> Float[Array, "K D"]:
    """The matrix that takes `standardised` tokens from D + W numbers to their D channels."""
    columns = jnp.pad(positions.columns[0, 0], [(0, 0), (channels, 0)])
    return jnp.concatenate([jnp.eye(columns.shape[-1], dtype=columns.dtype), columns])


def multiply_adds(channels: int, positions: GridPositions, num_at_once: int) -> float:
    """Multiply-adds that a logit, or a weight, takes for chunks of so many tokens of the grid.

    The last term is the product with the basis, once for each chunk.
    """
    small = channels + 1 + num_at_once // positions.columns.shape[2]
    return small + 1 + small * (channels + positions.width) / num_at_once
