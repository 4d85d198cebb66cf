"""Tokens: the one carrier of arrays into the encoder, and of queries into the decoder."""

from typing import NamedTuple

import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float


class Tokens(NamedTuple):
    """A set of elements, each with features, a position and whether it counts.

    features: [B, M, C]; a batch of 1 is shared by every example.
    positions: [B or 1, M, P], to be concatenated to the features; None where the features hold
        the position already. Kept apart, as positions are mostly the same for all examples.
    mask: [B, M], False for elements that are not there; None if all are.
    """

    features: Float[Array, "B M C"]
    positions: Float[Array, "b M P"] | None = None
    mask: Bool[Array, "B M"] | None = None

    @property
    def width(self) -> int:
        """Features and positions together."""
        positions = 0 if self.positions is None else self.positions.shape[-1]
        return self.features.shape[-1] + positions

    def joined(self) -> Float[Array, "B M D"]:
        """Features with their positions, [B, M, C + P]."""
        if self.positions is None:
            return self.features
        batch = max(self.features.shape[0], self.positions.shape[0])
        parts = [
            jnp.broadcast_to(part, (batch, *part.shape[1:]))
            for part in (self.features, self.positions)
        ]
        return jnp.concatenate(parts, axis=-1)

    def astype(self, dtype: DTypeLike) -> "Tokens":
        """The same tokens with features and positions in `dtype`."""
        positions = None if self.positions is None else self.positions.astype(dtype)
        return self._replace(features=self.features.astype(dtype), positions=positions)
