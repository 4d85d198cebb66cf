"""Text: embedded token ids as inputs, and one query per token position."""

from collections.abc import Mapping
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

# For larger tables, a product with one-hot rows costs more than the scatter that it replaces.
_SMALL_TABLE = 1024


class Embeddings(hk.Module):
    """A learned vector for each of `vocab_size` token ids."""

    def __init__(self, vocab_size: int, dim: int, name: str = "embeddings"):
        super().__init__(name=name)
        self._shape = (vocab_size, dim)

    @hk.name_like("__call__")
    def table(self) -> Float[Array, "V C"]:
        """The embedding table."""
        return hk.get_parameter("embeddings", self._shape, init=EMBEDDING_INIT)

    def __call__(self, ids: Int[Array, "B M"]) -> Float[Array, "B M C"]:
        """The embeddings of `ids`."""
        return embed(self.table(), ids)


@dataclass(frozen=True)
class TextTokens:
    """Embeddings of token ids plus learned positions (Perceiver IO, section 4.1)."""

    embeddings: Embeddings
    positions: LearnedPositions

    def __call__(
        self, inputs: Int[Array, "B M"], mask: Bool[Array, "B M"] | None, is_training: bool
    ) -> Tokens:
        """The tokens, for texts of any length up to the number of positions."""
        del is_training
        return Tokens(self.embeddings(inputs) + first(self.positions, inputs.shape[1]), mask=mask)

    def with_places(
        self, inputs: Int[Array, "B M"], mask: Bool[Array, "B M"] | None, is_training: bool
    ) -> tuple[Tokens, Int[np.ndarray, " M"]]:
        """The tokens, and their indices in the order of the text."""
        return self(inputs, mask, is_training), np.arange(inputs.shape[1])


@dataclass(frozen=True)
class TokenQueries:
    """A learned query for each position of the input, the same for every text.

    There are as many queries as the text has tokens, rather than always the maximum length.
    """

    positions: LearnedPositions

    def __call__(self, tokens: Tokens, query: Int[Array, "B O"] | None) -> Tokens:
        """The queries of all input positions, [1, M, C], or of the positions `query`, [B, O, C]."""
        if query is None:
            return Tokens(first(self.positions, tokens.features.shape[1]))
        return Tokens(self.positions.at(query))


@dataclass(frozen=True)
class FirstTokenQuery:
    """The query for the first token of a text, such as [CLS]; takes the place of any selection."""

    positions: LearnedPositions

    def __call__(self, tokens: Tokens, query: Array | None) -> Tokens:
        """The query, the same for every text, [1, 1, C]."""
        del tokens, query
        return Tokens(first(self.positions, 1))


@dataclass(frozen=True)
class TextOfTask:
    """Texts that come with the number of a task: {"ids": [B, M], "task": [B]}.

    text: the adapter for texts.
    task_tokens: embeddings of a token for each task, which takes the place of the first one of a
        text; None: the model does not see the task in its input.
    """

    text: TextTokens
    task_tokens: Embeddings | None

    def __call__(
        self, inputs: Mapping[str, Array], mask: Bool[Array, "B M"] | None, is_training: bool
    ) -> Tokens:
        """The tokens of the texts."""
        tokens = self.text(inputs["ids"], mask, is_training)
        if self.task_tokens is None:
            return tokens
        own = self.task_tokens(inputs["task"][:, None]) + first(self.text.positions, 1)
        return tokens._replace(features=jnp.concatenate([own, tokens.features[:, 1:]], axis=1))

    def with_places(
        self, inputs: Mapping[str, Array], mask: Bool[Array, "B M"] | None, is_training: bool
    ) -> tuple[Tokens, Int[np.ndarray, " M"]]:
        """The tokens, and their indices in the order of the text."""
        return self(inputs, mask, is_training), np.arange(inputs["ids"].shape[1])


def first(positions: LearnedPositions, length: int) -> Float[Array, "1 M P"]:
    """The first `length` position embeddings. Raises UserError if there are fewer."""
    if length > positions.num_positions:
        raise UserError(
            f"A text of {length} tokens is longer than the {positions.num_positions} positions "
            "that the model has: truncate it, or train a model with a larger model.max_length."
        )
    return positions.at(jnp.arange(length)[None])


@jax.custom_vjp
def embed(table: Float[Array, "V C"], ids: Int[Array, "..."]) -> Float[Array, "... C"]:
    """Looks up the rows `ids` of `table`.

    The gradient with respect to a small table is computed as a product with one-hot rows, because
    accelerators are slow at a scatter-add of many rows into few.
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
