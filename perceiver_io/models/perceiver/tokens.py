"""Tokens: what goes into the encoder as inputs and into the decoder as queries."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float


class GridPositions(NamedTuple):
    """Positions on a grid: rows[i] + columns[j] at cell (i, j), in array order.

    rows: for all axes but the last, flattened.
    columns: for the last axis, shared by all rows (hence the second axis of size 1).
    """

    rows: Float[Array, "1 R P"]
    columns: Float[Array, "1 1 W P"]

    @property
    def width(self) -> int:
        """P, the channels of a position encoding."""
        return self.rows.shape[-1]

    def dense(self) -> Float[Array, "1 M P"]:
        """The position encoding of each cell."""
        return (self.rows[:, :, None] + self.columns).reshape(1, -1, self.width)


Positions = Float[Array, "#B M P"] | GridPositions


class Tokens(NamedTuple):
    """A set of tokens, each with features, a position encoding and a mask bit.

    features: a batch of 1 is shared by every example.
    positions: to be concatenated to the features; None if the features already include them.
    mask: False for tokens to ignore; None if there are none.
    """

    features: Float[Array, "#B M C"]
    positions: Positions | None = None
    mask: Bool[Array, "#B M"] | None = None

    @property
    def width(self) -> int:
        """C + P, the channels of features and positions together."""
        extra = 0 if self.positions is None else jax.tree.leaves(self.positions)[0].shape[-1]
        return self.features.shape[-1] + extra

    def joined(self) -> Float[Array, "#B M D"]:
        """Features concatenated with their positions, D = C + P."""
        if self.positions is None:
            return self.features
        positions = dense_positions(self.positions)
        batch = max(self.features.shape[0], positions.shape[0])
        parts = (jnp.broadcast_to(x, (batch, *x.shape[1:])) for x in (self.features, positions))
        return jnp.concatenate(list(parts), axis=-1)

    def astype(self, dtype: DTypeLike) -> "Tokens":
        """The tokens with features and positions cast to `dtype`."""
        positions = jax.tree.map(lambda x: x.astype(dtype), self.positions)
        return self._replace(features=self.features.astype(dtype), positions=positions)


def dense_positions(positions: Positions | None) -> Float[Array, "#B M P"] | None:
    """Positions as a single array."""
    return positions.dense() if isinstance(positions, GridPositions) else positions
