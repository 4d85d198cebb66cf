"""Factorised tokens of a grid, whose position encodings are sums of a row's and a column's.

Such tokens can be normalised and multiplied without concatenating features and positions. With
x_ij = [features_ij, rows_i + columns_j], the product of all tokens with a vector is the sum of
products with the features, the rows and the columns; the mean and variance that normalise a token
are sums of this kind too. The products with the features are several times narrower than products
with features and positions.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from perceiver_io.models.fast.products import batched_product
from perceiver_io.models.perceiver.tokens import GridPositions

_FEW_ROWS = 16


class GridRows(NamedTuple):
    """A tall matrix X [M, D + W] with a row per grid cell, never materialised.

    The first D columns are own @ basis, of low rank. The last W, one per column of the grid, hold
    each cell's inverse standard deviation in the cell's own column, and zeros elsewhere.
    """

    own: Float[Array, "B M S"]
    basis: Float[Array, "1 S D"]
    inverse: Float[Array, "B R W"]

    @property
    def dtype(self) -> jnp.dtype:
        """The dtype of the rows."""
        return self.own.dtype

    def key_logits(self, queries: Float[Array, "b 1 K O"]) -> Float[Array, "B 1 M O"]:
        """Logits with the rows as keys of a single head, K = D + W: X queries."""
        queries, dim = queries[:, 0], self.basis.shape[-1]
        small, of_columns = self.basis @ queries[:, :dim], queries[:, dim:].astype(jnp.float32)
        logits = batched_product(self.own, small)
        # Added in the shape of the grid: otherwise XLA does not vectorise the sum of repeated rows.
        by_place = logits.reshape(len(logits), 1, *self.inverse.shape[1:], -1)
        by_place += of_columns[:, None, None] * self.inverse[:, None, ..., None].astype(jnp.float32)
        return by_place.reshape(len(logits), 1, *logits.shape[1:])

    def query_logits(self, keys: Float[Array, "b 1 N K"]) -> Float[Array, "B 1 N M"]:
        """Logits with the rows as queries of a single head: keys X^T."""
        keys, dim = keys[:, 0], self.basis.shape[-1]
        small = keys[..., :dim] @ jnp.swapaxes(self.basis, 1, 2)
        of_columns = keys[..., dim:].astype(jnp.float32)
        logits = batched_product(small, jnp.swapaxes(self.own, 1, 2))
        by_place = logits.reshape(len(logits), 1, -1, *self.inverse.shape[1:])
        by_place += of_columns[:, None, :, None] * self.inverse[:, None, None].astype(jnp.float32)
        return by_place.reshape(*by_place.shape[:3], -1)

    def weighted(self, weights: Float[Array, "B 1 M O"]) -> Float[Array, "B 1 V O"]:
        """Weighted sums with the rows as values of a single head, V = D + W: X^T weights."""
        weights = weights[:, 0]
        small = batched_product(jnp.swapaxes(self.own, 1, 2), weights.astype(self.dtype))
        by_place = weights.reshape(len(weights), *self.inverse.shape[1:], -1)
        by_place *= self.inverse[..., None].astype(jnp.float32)
        # A chunk has few rows. On CPUs an unrolled sum over them is 40 times faster than `sum`, but
        # its backward pass needs memory for each term.
        rows = by_place.shape[1]
        few = rows <= _FEW_ROWS
        of_columns = sum(by_place[:, row] for row in range(rows)) if few else by_place.sum(axis=1)
        dense = jnp.swapaxes(self.basis, 1, 2).astype(jnp.float32) @ small
        return jnp.concatenate([dense, of_columns], axis=1)[:, None]


def standardised(features: Float[Array, "B M C"], positions: GridPositions) -> GridRows:
    """The tokens [features, positions], each with mean 0 and variance 1, as `GridRows` X.

    X times `lift` gives the tokens [B, M, C + P] as normalised without scale and offset.
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
    # For the positions, too, squares are taken around the mean of the whole token.
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
    """What `own` is relative to: each feature; all position channels; each grid row's position."""
    width = rows.shape[-1]
    features, ones = jnp.eye(channels, channels + width), jnp.ones((1, width))
    of_positions = jnp.pad(jnp.concatenate([ones, rows[0]]), [(0, 0), (channels, 0)])
    return jnp.concatenate([features, of_positions])[None]


def lift(channels: int, positions: GridPositions) -> Float[Array, "K D"]:
    """The matrix that maps `standardised` tokens from D + W numbers to their D channels."""
    columns = jnp.pad(positions.columns[0, 0], [(0, 0), (channels, 0)])
    return jnp.concatenate([jnp.eye(columns.shape[-1], dtype=columns.dtype), columns])


def multiply_adds(channels: int, positions: GridPositions, num_at_once: int) -> float:
    """Multiply-adds per logit, or per weight, with chunks of `num_at_once` tokens.

    The last term is the product with the basis, once per chunk.
    """
    small = channels + 1 + num_at_once // positions.columns.shape[2]
    return small + 1 + small * (channels + positions.width) / num_at_once
