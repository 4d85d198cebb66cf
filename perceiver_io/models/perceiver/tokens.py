"""Tokens: the one carrier of arrays into the encoder, and of queries into the decoder."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float


class GridPositions(NamedTuple):
    """Positions of a grid, rows[i] + columns[j] at place (i, j), places in array order.

    rows: of all axes but the last, flattened.
    columns: of the last axis; the other axis of 1 stands for being the same in each row.
    """

    rows: Float[Array, "1 R P"]
    columns: Float[Array, "1 1 W P"]

    @property
    def width(self) -> int:
        """P, the channels of a position."""
        return self.rows.shape[-1]

    def dense(self) -> Float[Array, "1 M P"]:
        """The position of each place."""
        return (self.rows[:, :, None] + self.columns).reshape(1, -1, self.width)


Positions = Float[Array, "#B M P"] | GridPositions


class Tokens(NamedTuple):
    """A set of elements, each with features, a position and whether it counts.

    features: a batch of 1 is shared by every example.
    positions: to be concatenated to the features; None where these hold the position already.
    mask: False for elements that are not there; None if all are.
    """

    features: Float[Array, "#B M C"]
    positions: Positions | None = None
    mask: Bool[Array, "#B M"] | None = None

    @property
    def width(self) -> int:
        """Features and positions together."""
        extra = 0 if self.positions is None else jax.tree.leaves(self.positions)[0].shape[-1]
        return self.features.shape[-1] + extra

    def joined(self) -> Float[Array, "#B M D"]:
        """Features with their positions, [B, M, C + P]."""
        if self.positions is None:
            return self.features
        positions = dense_positions(self.positions)
        batch = max(self.features.shape[0], positions.shape[0])
        parts = (jnp.broadcast_to(x, (batch, *x.shape[1:])) for x in (self.features, positions))
        return jnp.concatenate(list(parts), axis=-1)

    def astype(self, dtype: DTypeLike) -> "Tokens":
        """The same tokens with features and positions in `dtype`."""
        positions = jax.tree.map(lambda x: x.astype(dtype), self.positions)
        return self._replace(features=self.features.astype(dtype), positions=positions)


def dense_positions(positions: Positions | None) -> Float[Array, "#B M P"] | None:
    """Positions as one array."""
    return positions.dense() if isinstance(positions, GridPositions) else positions
