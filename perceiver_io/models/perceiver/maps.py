"""Attention maps, from latents to positions in the input and from queries to latents."""

from typing import Protocol, TypeAlias, cast, runtime_checkable

import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PyTree

from perceiver_io.models.perceiver.encoder import Encoded, EncodingModel, InputAdapter
from perceiver_io.models.perceiver.perceiver import PerceiverIO
from perceiver_io.models.perceiver.tokens import Tokens

Places: TypeAlias = PyTree[Int[np.ndarray, "..."]]
"""The index of the token at each position of the input's own grid; possibly a dict by modality."""


@runtime_checkable
class PlacedInputs(InputAdapter, Protocol):
    """An input adapter that also returns where its tokens are, as all in this project do."""

    def with_places(
        self, inputs: PyTree[Array], mask: Bool[Array, "#B M"] | None, is_training: bool
    ) -> tuple[Tokens, Places]:
        """The tokens and their places."""


def encoder_maps(
    model: EncodingModel,
    inputs: PyTree[Array],
    *,
    input_mask: Bool[Array, "#B M"] | None = None,
    latents: Int[Array, " n"],
) -> list[PyTree[Float[Array, "B H n ..."]]]:
    """The attention of the given latents to each input, for each cross-attend of the encoder.

    Maps have the shape of the input's own grid, such as [B, H, n, rows, columns]; with several
    modalities, each is a dict of them. The input adapter must satisfy `PlacedInputs`.
    """
    tokens, places = cast(PlacedInputs, model.inputs).with_places(inputs, input_mask, False)
    maps = model.encoder.attention_maps(tokens, latents)
    return [jax.tree.map(lambda at, x=x: x[..., at], places) for x in maps]


def decoder_map(
    model: PerceiverIO, encoded: Encoded, *, query: PyTree[Array] | None = None
) -> Float[Array, "B H O N"] | dict[str, Float[Array, "B H O N"]]:
    """The attention of the queries to each latent; a dict by modality if the queries are one."""
    queries, latents = model.queries(encoded.tokens, query), encoded.latents
    if isinstance(queries, Tokens):
        return model.decoder.attention_map(queries, latents)
    return {
        name: model.decoder_of(name).attention_map(part, latents) for name, part in queries.items()
    }
