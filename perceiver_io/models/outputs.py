"""Output adapters: the decoded array -> class logits, values at each position.

An adapter has two halves: `project`, position by position, so that a decoder may run it on any
piece of the queries, and `arrange`, on all the projected positions together.
"""

from dataclasses import dataclass

import haiku as hk
from jaxtyping import Array, Float

from perceiver_io.models.blocks import WEIGHT_INIT


@dataclass(frozen=True)
class PositionProjection:
    """A linear layer at each position.

    dim: width of the result.
    init_scale: variance scale of the initial weights; 0 starts from a constant output.
    """

    dim: int
    init_scale: float = 1.0
    name: str = "output"

    def project(self, x: Float[Array, "B O C"]) -> Float[Array, "B O E"]:
        """The layer."""
        init = (
            hk.initializers.VarianceScaling(self.init_scale, "fan_in", "truncated_normal")
            if self.init_scale
            else hk.initializers.Constant(0)
        )
        return hk.Linear(self.dim, w_init=init, name=self.name)(x)

    def arrange(self, x: Float[Array, "B O E"]) -> Float[Array, "B O E"]:
        """Positions stay as they are."""
        return x


@dataclass(frozen=True)
class ClassLogits:
    """Logits of one query."""

    num_classes: int

    def project(self, x: Float[Array, "B O C"]) -> Float[Array, "B O E"]:
        """A linear layer to the classes."""
        return PositionProjection(self.num_classes, name="logits").project(x)

    def arrange(self, x: Float[Array, "B 1 E"]) -> Float[Array, "B E"]:
        """Drops the axis of the single query."""
        return x[:, 0]


@dataclass(frozen=True)
class AveragePooledLogits:
    """The mean of the latents through a linear layer (Perceiver, section 3.1)."""

    num_classes: int

    def __call__(self, latents: Float[Array, "B N D"]) -> Float[Array, "B E"]:
        """Logits of the classes."""
        return hk.Linear(self.num_classes, w_init=WEIGHT_INIT, name="logits")(latents.mean(axis=1))
