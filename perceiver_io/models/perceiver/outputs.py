"""Output adapters: from decoded vectors to class logits or to values at each position.

Each is an `OutputAdapter` (see `decoder.py`), except the head of the original Perceiver.
"""

from collections.abc import Callable
from dataclasses import dataclass

import haiku as hk
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from perceiver_io.models.weights import BIAS_INIT, WEIGHT_INIT, Linear, get_linear


@dataclass(frozen=True)
class PositionProjection:
    """A linear layer at each position.

    dim: output width.
    init_scale: variance scale of the initial weights; 0 makes the initial output constant.
    scale: what the output is multiplied with.
    """

    dim: int
    init_scale: float = 1.0
    scale: float = 1.0
    name: str = "output"

    def layers(self, width: int) -> list[Linear]:
        """The linear layer."""
        init = (
            hk.initializers.VarianceScaling(self.init_scale, "fan_in", "truncated_normal")
            if self.init_scale
            else hk.initializers.Constant(0)
        )
        return [get_linear(self.name, width, self.dim, init)]

    def arrange(self, x: Float[Array, "B O E"]) -> Float[Array, "B O E"]:
        """The output, scaled."""
        return x if self.scale == 1 else self.scale * x


@dataclass(frozen=True)
class ClassLogits:
    """Class logits from a single query."""

    num_classes: int
    name: str = "logits"

    def layers(self, width: int) -> list[Linear]:
        """A linear layer to the logits."""
        return PositionProjection(self.num_classes, name=self.name).layers(width)

    def arrange(self, x: Float[Array, "B 1 E"]) -> Float[Array, "B E"]:
        """Drops the axis of the single query."""
        return x[:, 0]


@dataclass(frozen=True)
class TanhHead:
    """Two linear layers with tanh between them, from a single query (Perceiver IO, section 4.1).

    hidden_dim: width of the first layer.
    """

    num_outputs: int
    hidden_dim: int

    def layers(self, width: int) -> list[Linear]:
        """The first layer."""
        return PositionProjection(self.hidden_dim, name="head").layers(width)

    def arrange(self, x: Float[Array, "B 1 F"]) -> Float[Array, "B E"]:
        """The second layer, on the tanh of the first."""
        logits = hk.Linear(self.num_outputs, w_init=WEIGHT_INIT, b_init=BIAS_INIT, name="logits")
        return logits(jnp.tanh(x[:, 0]))


class TaskHeads(hk.Module):
    """A `TanhHead` for each of T tasks, from one query for all or one for each (Perceiver IO, 4.1).

    Args:
        num_tasks: T.
        num_outputs: of each head.
        hidden_dim: width of each head's first layer.
    """

    def __init__(self, num_tasks: int, num_outputs: int, hidden_dim: int, name: str = "heads"):
        super().__init__(name=name)
        self._shape = (num_tasks, hidden_dim, num_outputs)

    @hk.name_like("__call__")
    def layers(self, width: int) -> list[Linear]:
        """The first layers of all heads, side by side."""
        num_tasks, hidden_dim, _ = self._shape
        return PositionProjection(num_tasks * hidden_dim, name="hidden").layers(width)

    @hk.name_like("__call__")
    def arrange(self, x: Float[Array, "B O F"]) -> Float[Array, "B T E"]:
        """The second layer of each head, on the tanh of the first; O is 1 or T."""
        num_tasks, hidden_dim, num_outputs = self._shape
        x = jnp.tanh(x.reshape(*x.shape[:2], num_tasks, hidden_dim))
        # One query serves all heads; of several, each serves its own.
        x = x[:, 0] if x.shape[1] == 1 else jnp.einsum("bttf->btf", x)
        init = hk.initializers.VarianceScaling(1.0, "fan_in", "truncated_normal")
        shape = (hidden_dim, num_tasks * num_outputs)
        w = hk.get_parameter("w", shape, x.dtype, init).reshape(hidden_dim, num_tasks, num_outputs)
        b = hk.get_parameter("b", (num_tasks, num_outputs), x.dtype, BIAS_INIT)
        return jnp.einsum("btf,fte->bte", x, w) + b


@dataclass(frozen=True)
class SharedProjection:
    """A linear layer shared by all modalities, followed by a modality's own adapter."""

    shared: PositionProjection
    own: PositionProjection | ClassLogits

    def layers(self, width: int) -> list[Linear]:
        """Both layers."""
        return [*self.shared.layers(width), *self.own.layers(self.shared.dim)]

    def arrange(self, x: Float[Array, "B O E"]) -> Array:
        """As in the modality's own adapter."""
        return self.own.arrange(x)


class TiedLogits(hk.Module):
    """Token logits with weights tied to the input embeddings, and a learned bias.

    Args:
        embeddings: returns the embedding table [V, C].
    """

    def __init__(self, embeddings: Callable[[], Array], name: str = "logits"):
        super().__init__(name=name)
        self._embeddings = embeddings

    def layers(self, width: int) -> list[Linear]:
        """The transposed embedding table; `width` must equal the width of the embeddings."""
        del width
        table = self._embeddings()
        bias = hk.get_parameter("b", [table.shape[0]], init=BIAS_INIT)
        return [Linear(table.T, bias)]

    def arrange(self, x: Float[Array, "B O V"]) -> Float[Array, "B O V"]:
        """Returns `x` unchanged."""
        return x


@dataclass(frozen=True)
class FlowField:
    """Optical flow at each pixel, in pixels (Perceiver IO, section 4.2).

    image_size: height and width.
    scale: pixels of flow per unit of the linear layer's output. The published models divide by 100
        and learn flow in units of 20 pixels.
    """

    image_size: tuple[int, int]
    scale: float = 20 / 100

    def layers(self, width: int) -> list[Linear]:
        """A linear layer to the two components of flow, initially zero."""
        return PositionProjection(2, init_scale=0.0).layers(width)

    def arrange(self, x: Float[Array, "B O 2"]) -> Float[Array, "B H W 2"]:
        """The field, scaled: displacement to the right and down."""
        return (x * self.scale).reshape(-1, *self.image_size, 2)


@dataclass(frozen=True)
class UpsampledFlow:
    """Optical flow at each pixel, upsampled from a coarse field, in pixels (Perceiver IO, 4.2).

    Each pixel's flow is a convex combination of the flow at the 3x3 coarse cells around it, with
    predicted weights (RAFT, 2003.12039, section 3.3).

    coarse_size: height and width of the grid of queries.
    factor: upsampling factor; each cell of the coarse grid covers factor x factor pixels.
    scale: pixels of flow per unit of the linear layer's output, as in `FlowField`.
    """

    coarse_size: tuple[int, int]
    factor: int
    scale: float = 20 / 100

    def layers(self, width: int) -> list[Linear]:
        """A linear layer to the coarse flow and nine weights for each pixel, initially zero."""
        return PositionProjection(2 + 9 * self.factor**2, init_scale=0.0).layers(width)

    def arrange(self, x: Float[Array, "B O E"]) -> Float[Array, "B H W 2"]:
        """The field, scaled: displacement to the right and down."""
        height, width = self.coarse_size
        flow = (x[..., :2] * self.scale).reshape(-1, height, width, 2)
        weights = jax.nn.softmax(x[..., 2:].reshape(*flow.shape[:3], 9, -1), axis=3)
        # Outside the image, the flow at the border is repeated.
        padded = jnp.pad(flow, ((0, 0), (1, 1), (1, 1), (0, 0)), "edge")
        around = jnp.stack(
            [padded[:, i : i + height, j : j + width] for i in range(3) for j in range(3)], axis=3
        )
        fine = jnp.einsum("bhwnp,bhwnc->bhwpc", weights, around)
        fine = fine.reshape(-1, height, width, self.factor, self.factor, 2)
        height, width = height * self.factor, width * self.factor
        return jnp.moveaxis(fine, 3, 2).reshape(-1, height, width, 2)


@dataclass(frozen=True)
class AveragePooledLogits:
    """Average-pools the latents and applies a linear layer (Perceiver, section 3.1)."""

    num_classes: int

    def __call__(self, latents: Float[Array, "B N D"]) -> Float[Array, "B E"]:
        """Class logits."""
        logits = hk.Linear(self.num_classes, w_init=WEIGHT_INIT, b_init=BIAS_INIT, name="logits")
        return logits(latents.mean(axis=1))
