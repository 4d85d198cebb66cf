"""Models that command units of StarCraft II (Perceiver IO, section 4.4)."""

from typing import Annotated

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from perceiver_io.config.annotations import INPUT_SIZE, Length, Width
from perceiver_io.config.unit_features import UNIT_FEATURES
from perceiver_io.models.builders.blueprint import Blueprint
from perceiver_io.models.perceiver.decoder import Decoder
from perceiver_io.models.perceiver.encoder import SingleReadEncoder
from perceiver_io.models.settings import (
    AttentionForm,
    DecoderSettings,
    EncoderSettings,
    LatentStackSettings,
)
from perceiver_io.models.starcraft.commander import Commander
from perceiver_io.models.starcraft.embedding import UnitEmbedding, encoded
from perceiver_io.models.starcraft.entities import (
    EntityEncoder,
    PerceiverMixer,
    TransformerMixer,
    UnitMixer,
)


def perceiver_io_commander(
    num_actions: Width,
    slots: Annotated[Length, INPUT_SIZE],
    max_selected: Length,
    width: Width,
    encoder: EncoderSettings,
    decoder: DecoderSettings = DecoderSettings(),
    key_dim: Width = 64,
    attention: AttentionForm = AttentionForm(),
) -> Blueprint:
    """Perceiver IO as the encoder of entities; the embedded units are its inputs and queries.

    `slots` is the number of units, of which some may be missing; `max_selected` the greatest number
    of selected ones; `width` that of embedded and of encoded units.
    """
    mixer = PerceiverMixer(SingleReadEncoder(encoder, attention), Decoder(decoder, attention))
    return _commander(mixer, width, slots, (num_actions, max_selected, key_dim))


def transformer_commander(
    num_actions: Width,
    slots: Annotated[Length, INPUT_SIZE],
    max_selected: Length,
    width: Width,
    layers: LatentStackSettings,
    key_dim: Width = 64,
    attention: AttentionForm = AttentionForm(),
) -> Blueprint:
    """The same with AlphaStar's Transformer, with which the paper compares."""
    mixer = TransformerMixer(layers, attention)
    return _commander(mixer, width, slots, (num_actions, max_selected, key_dim))


def _commander(mixer: UnitMixer, width: int, slots: int, heads: tuple[int, int, int]) -> Blueprint:
    model = Commander(UnitEmbedding(width), EntityEncoder(mixer, width), *heads)
    spec = {
        "units": jax.ShapeDtypeStruct((1, slots, len(UNIT_FEATURES)), jnp.float32),
        "unit_mask": jax.ShapeDtypeStruct((1, slots), bool),
        "selectable": jax.ShapeDtypeStruct((1, slots), bool),
    }
    return Blueprint(model, spec, features=_features)


def _features(inputs: PyTree[Array]) -> PyTree[Array]:
    """Encodes the units, whose numbers are exact in float32 only."""
    return dict(inputs) | {"units": encoded(inputs["units"])}
