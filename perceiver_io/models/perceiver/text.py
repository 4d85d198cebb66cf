"""Text: embedded token ids as inputs, a query at each token's place."""

from dataclasses import dataclass

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from perceiver_io.errors import UserError
from perceiver_io.models.perceiver.positions import LearnedPositions
from perceiver_io.models.perceiver.tokens import Tokens
from perceiver_io.models.weights import EMBEDDING_INIT

# Beyond this size of a table, a product with one-hot rows costs more than the scatter it replaces.
_SMALL_TABLE = 1024


class Embeddings(hk.Module):
    """A learned vector for each of `vocab_size` token ids."""

    def __init__(self, vocab_size: int, dim: int, name: str = "embeddings"):
        super().__init__(name=name)
        self._shape = (vocab_size, dim)

    @hk.name_like("__call__")
    def table(self) -> Float[Array, "V C"]:
        """All vectors."""
        return hk.get_parameter("embeddings", self._shape, init=EMBEDDING_INIT)

    def __call__(self, ids: Int[Array, "B M"]) -> Float[Array, "B M C"]:
        """The vectors of `ids`."""
        return embed(self.table(), ids)


@dataclass(frozen=True)
class TextTokens:
    """Token ids, embedded, with a learned position added to each (Perceiver IO, section 4.1)."""

    embeddings: Embeddings
    positions: LearnedPositions

    def __call__(
        self, inputs: Int[Array, "B M"], mask: Bool[Array, "B M"] | None, is_training: bool
    ) -> Tokens:
        """The tokens of texts of any length up to the number of positions."""
        del is_training
        return Tokens(self.embeddings(inputs) + first(self.positions, inputs.shape[1]), mask=mask)

    def with_places(
        self, inputs: Int[Array, "B M"], mask: Bool[Array, "B M"] | None, is_training: bool
    ) -> tuple[Tokens, Int[np.ndarray, " M"]]:
        """The tokens in the order of the text."""
        return self(inputs, mask, is_training), np.arange(inputs.shape[1])


@dataclass(frozen=True)
class TokenQueries:
    """A learned query for each place of the input, the same for every text.

    Without it a shorter text would be asked for as many outputs as the longest one.
    """

    positions: LearnedPositions

    def __call__(self, tokens: Tokens, query: Int[Array, "B O"] | None) -> Tokens:
        """The queries of all input places, [1, M, C], or of the places `query`, [B, O, C]."""
        if query is None:
            return Tokens(first(self.positions, tokens.features.shape[1]))
        return Tokens(self.positions.at(query))


def first(positions: LearnedPositions, length: int) -> Float[Array, "1 M P"]:
    """The positions of the first `length` places. Raises UserError where there are fewer."""
    if length > positions.num_positions:
        raise UserError(
            f"A text of {length} tokens is longer than the {positions.num_positions} positions "
            "that the model has: cut it, or set model.max_length to its length and train."
        )
    return positions.at(jnp.arange(length)[None])


@jax.custom_vjp
def embed(table: Float[Array, "V C"], ids: Int[Array, "..."]) -> Float[Array, "... C"]:
    """The rows of `table` that `ids` name.

    The gradient of a small table is a product with one-hot rows: adding many rows into a few, one
    after the other, is what accelerators are slowest at.
    """
    return table[ids]


def _embed_forward(table, ids):
    return table[ids], (ids, table.shape, jnp.zeros((0,), table.dtype))


def _embed_backward(residuals, cotangent):
    ids, (size, width), like = residuals
    ids, cotangent = ids.reshape(-1), cotangent.reshape(-1, width)
    if size <= _SMALL_TABLE:
        rows = jax.nn.one_hot(ids, size, dtype=cotangent.dtype)
        gradient = jnp.einsum("nv,nc->vc", rows, cotangent, preferred_element_type=jnp.float32)
    else:
        gradient = jnp.zeros((size, width), jnp.float32).at[ids].add(cotangent)
    return gradient.astype(like.dtype), None


embed.defvjp(_embed_forward, _embed_backward)
