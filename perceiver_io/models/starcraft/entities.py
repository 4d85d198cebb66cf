"""Encoders of entities: Perceiver IO and the Transformer of AlphaStar (Perceiver IO, section 4.4).

Both map embedded units to a vector for each of them and one for all, at a cost that is linear in
the number of units for Perceiver IO and quadratic for the Transformer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import haiku as hk
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from perceiver_io.models.layers import linear
from perceiver_io.models.perceiver.decoder import Decoder
from perceiver_io.models.perceiver.encoder import LatentStack, SingleReadEncoder
from perceiver_io.models.perceiver.tokens import Tokens
from perceiver_io.models.settings import AttentionForm, LatentStackSettings
from perceiver_io.models.weights import Linear, get_linear


@runtime_checkable
class UnitMixer(Protocol):
    """What differs between the encoders: it tells each unit about the others."""

    def __call__(
        self, units: Float[Array, "B U C"], mask: Bool[Array, "B U"], is_training: bool
    ) -> Float[Array, "B U C"]:
        """The units after mixing; arbitrary where `mask` is False, which others must not see."""


class _AsDecoded:
    """An output adapter without layers."""

    def layers(self, width: int) -> Sequence[Linear]:
        del width
        return ()

    def arrange(self, x: Float[Array, "B O E"]) -> Float[Array, "B O E"]:
        return x


@dataclass(frozen=True)
class PerceiverMixer:
    """Latents read the units, and the units are the queries that read the latents."""

    encoder: SingleReadEncoder
    decoder: Decoder

    def __call__(
        self, units: Float[Array, "B U C"], mask: Bool[Array, "B U"], is_training: bool
    ) -> Float[Array, "B U C"]:
        """The decoded units."""
        tokens = Tokens(units, mask=mask)
        latents = self.encoder(tokens, is_training)
        return self.decoder(tokens, latents, _AsDecoded(), is_training)


@dataclass(frozen=True)
class TransformerMixer:
    """Transformer layers on the units themselves."""

    layers: LatentStackSettings
    form: AttentionForm

    def __call__(
        self, units: Float[Array, "B U C"], mask: Bool[Array, "B U"], is_training: bool
    ) -> Float[Array, "B U C"]:
        """The units after all layers."""
        return LatentStack(self.layers, self.form, name="layers")(units, is_training, mask)


class Entities(NamedTuple):
    """Encoded units.

    Attributes:
        each: a vector for each unit; zeros in empty slots.
        pooled: a vector for all of them.
    """

    each: Float[Array, "B U E"]
    pooled: Float[Array, "B E"]


class EntityEncoder(hk.Module):
    """A mixer and its heads: for each unit, ReLU and a linear layer; for all, mean, linear, ReLU.

    Args:
        mixer: of the units.
        width: E of both outputs.
    """

    def __init__(self, mixer: UnitMixer, width: int):
        super().__init__(name="entities")
        self._mixer, self._width = mixer, width

    def __call__(
        self, units: Float[Array, "B U C"], mask: Bool[Array, "B U"], is_training: bool
    ) -> Entities:
        """Encodes embedded units; those whose `mask` is False change nothing."""
        shown = mask[..., None]
        mixed = jnp.where(shown, self._mixer(units, mask, is_training), 0)
        each = get_linear("each", mixed.shape[-1], self._width)
        pooled = get_linear("pooled", mixed.shape[-1], self._width)
        count = jnp.maximum(shown.sum(1), 1).astype(mixed.dtype)
        return Entities(
            jnp.where(shown, linear(each, jax.nn.relu(mixed)), 0),
            jax.nn.relu(linear(pooled, mixed.sum(1) / count)),
        )
