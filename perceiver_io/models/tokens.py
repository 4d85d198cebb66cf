"""Tokens: the one carrier of arrays into the encoder, and of queries into the decoder."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from perceiver_io.models.grids import GridPositions


class Tokens(NamedTuple):
    """A set of elements, each with features, a position and whether it counts.

    features: [B, M, C]; a batch of 1 is shared by every example.
    positions: [B or 1, M, P], or those of a grid, to be concatenated to the features; None where
        the features hold the position already. Kept apart, as positions are mostly the same for
        all examples.
    mask: [B, M], False for elements that are not there; None if all are.
    """

    features: Float[Array, "B M C"]
    positions: Float[Array, "b M P"] | GridPositions | None = None
    mask: Bool[Array, "B M"] | None = None

    @property
    def width(self) -> int:
        """Features and positions together."""
        if self.positions is None:
            return self.features.shape[-1]
        grid = isinstance(self.positions, GridPositions)
        positions = self.positions.width if grid else self.positions.shape[-1]
        return self.features.shape[-1] + positions

    def dense(self) -> "Tokens":
        """The same tokens with a row of positions for each."""
        return self._replace(positions=dense_positions(self.positions))

    def joined(self) -> Float[Array, "B M D"]:
        """Features with their positions, [B, M, C + P]."""
        if self.positions is None:
            return self.features
        positions = dense_positions(self.positions)
        batch = max(self.features.shape[0], positions.shape[0])
        parts = [
            jnp.broadcast_to(part, (batch, *part.shape[1:])) for part in (self.features, positions)
        ]
        return jnp.concatenate(parts, axis=-1)

    def astype(self, dtype: DTypeLike) -> "Tokens":
        """The same tokens with features and positions in `dtype`."""
        positions = jax.tree.map(lambda x: x.astype(dtype), self.positions)
        return self._replace(features=self.features.astype(dtype), positions=positions)


def dense_positions(
    positions: Float[Array, "b M P"] | GridPositions | None,
) -> Float[Array, "b M P"] | None:
    """Positions as one array."""
    return positions.dense() if isinstance(positions, GridPositions) else positions
