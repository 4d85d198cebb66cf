"""Maps of attention: how much latents attend to places of the inputs, and queries to latents."""

from typing import Protocol, TypeAlias, cast, runtime_checkable

import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PyTree

from perceiver_io.models.perceiver.encoder import Encoded, EncodingModel, InputAdapter
from perceiver_io.models.perceiver.perceiver import PerceiverIO
from perceiver_io.models.perceiver.tokens import Tokens

Places: TypeAlias = PyTree[Int[np.ndarray, "..."]]
"""The number of the token at each place of the inputs' own grid; a dict by modality."""


@runtime_checkable
class PlacedInputs(InputAdapter, Protocol):
    """An input adapter that knows where its tokens are, as all in this project do."""

    def with_places(
        self, inputs: PyTree[Array], mask: Bool[Array, "#B M"] | None, is_training: bool
    ) -> tuple[Tokens, Places]:
        """The tokens, and their places."""


def encoder_maps(
    model: EncodingModel,
    inputs: PyTree[Array],
    *,
    input_mask: Bool[Array, "#B M"] | None = None,
    latents: Int[Array, " n"],
) -> list[PyTree[Float[Array, "B H n ..."]]]:
    """How much some latents attend to each place, in each cross-attend of the encoder.

    Places are in the inputs' own grid, such as [B, H, n, rows, columns]; a dict by modality. The
    input adapter must be one of `PlacedInputs`.
    """
    tokens, places = cast(PlacedInputs, model.inputs).with_places(inputs, input_mask, False)
    maps = model.encoder.attention_maps(tokens, latents)
    return [jax.tree.map(lambda at, x=x: x[..., at], places) for x in maps]


def decoder_map(
    model: PerceiverIO, encoded: Encoded, *, query: PyTree[Array] | None = None
) -> Float[Array, "B H O N"] | dict[str, Float[Array, "B H O N"]]:
    """How much the queries attend to each latent; a dict by modality where they are one."""
    queries, latents = model.queries(encoded.tokens, query), encoded.latents
    if isinstance(queries, Tokens):
        return model.decoder.attention_map(queries, latents)
    return {
        name: model.decoder_of(name).attention_map(part, latents) for name, part in queries.items()
    }
