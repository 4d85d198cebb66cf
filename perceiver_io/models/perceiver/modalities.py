"""Several modalities in one model: their tokens are padded to a common width and concatenated.

Modalities are always in alphabetical order, whatever the order of a dict.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PyTree

from perceiver_io.errors import UserError
from perceiver_io.models.perceiver.maps import PlacedInputs
from perceiver_io.models.perceiver.queries import PaddedChannels
from perceiver_io.models.perceiver.tokens import Tokens
from perceiver_io.models.weights import EMBEDDING_INIT

PRESENT = "present"
"""The entry of the inputs that tells which examples have a modality; no modality's name."""


@dataclass(frozen=True)
class Modality:
    """One modality: its input adapter, the number and width of the tokens that this makes.

    spec: the shape and dtype of one example, [1, ...].
    """

    adapter: PlacedInputs
    num_tokens: int
    width: int
    spec: jax.ShapeDtypeStruct


@dataclass(frozen=True)
class ModalityTokens:
    """The concatenated tokens of all modalities (Perceiver IO, section 4.3).

    Inputs are a dict of arrays [B, ...] by modality. Its entry `present`, a dict of booleans [B] by
    modality, may say which examples have a modality. Without it, all examples have the modalities
    of the dict, and none has the others.

    Tokens are padded with learned channels, which tell the model their modality. For examples that
    lack a modality, each of its tokens is its learned mask token.

    parts: the modalities by name.
    extra_channels: the common width is the widest modality's plus this.
    """

    parts: Mapping[str, Modality]
    extra_channels: int

    @property
    def spec(self) -> dict[str, Any]:
        """Shapes and dtypes of the inputs of one example."""
        present = {name: jax.ShapeDtypeStruct((1,), bool) for name in self.parts}
        return {name: part.spec for name, part in self.parts.items()} | {PRESENT: present}

    def __call__(
        self,
        inputs: Mapping[str, PyTree[Array]],
        mask: Bool[Array, "B M"] | None,
        is_training: bool,
    ) -> Tokens:
        """The tokens of each example's modalities, and mask tokens for the others.

        Raises UserError for an unknown modality, or if none is given.
        """
        return self.with_places(inputs, mask, is_training)[0]

    def with_places(
        self,
        inputs: Mapping[str, PyTree[Array]],
        mask: Bool[Array, "B M"] | None,
        is_training: bool,
    ) -> tuple[Tokens, dict[str, Int[np.ndarray, "..."]]]:
        """The tokens, and their places by modality; mask tokens are in a row."""
        given = dict(inputs)
        present = given.pop(PRESENT, {})
        unknown = (given.keys() | present.keys()) - self.parts.keys()
        if unknown or not given:
            raise UserError(
                f"The inputs are {sorted(inputs)}, but the model takes one or more of "
                f"{sorted(self.parts)}."
            )
        batch = len(next(iter(given.values())))
        rows, places, count = [], {}, 0
        for name in sorted(self.parts):
            row, its_places = self._tokens(name, given.get(name), present.get(name), is_training)
            rows.append(jnp.broadcast_to(row, (batch, *row.shape[1:])))
            places[name] = count + its_places
            count += row.shape[1]
        return Tokens(jnp.concatenate(rows, axis=1), mask=mask), places

    def _tokens(
        self,
        name: str,
        given: Array | None,
        present: Bool[Array, " B"] | None,
        is_training: bool,
    ) -> tuple[Float[Array, "#B M D"], Int[np.ndarray, "..."]]:
        part = self.parts[name]
        width = max(part.width for part in self.parts.values()) + self.extra_channels
        tokens = Tokens(jnp.zeros((1, part.num_tokens, part.width)))
        places = np.arange(part.num_tokens)
        if given is not None:
            tokens, places = part.adapter.with_places(given, None, is_training)
        # Both are created in either case, so that the parameters do not depend on the input.
        padded = PaddedChannels(width, EMBEDDING_INIT, name=f"{name}_padding")(tokens).features
        hidden = MaskToken(width, name=f"{name}_mask_token")()
        if given is None:
            return jnp.broadcast_to(hidden, padded.shape), places
        if present is not None:
            padded = jnp.where(present[:, None, None], padded, hidden)
        return padded, places


class MaskToken(hk.Module):
    """A learned vector in place of the tokens of a missing modality."""

    def __init__(self, width: int, name: str):
        super().__init__(name=name)
        self._width = width

    def __call__(self) -> Float[Array, " D"]:
        """The mask token."""
        return hk.get_parameter("embeddings", [self._width], init=EMBEDDING_INIT)
