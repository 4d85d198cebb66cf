"""Output queries, from which the decoder computes its outputs.

A query module is called as `queries(tokens, query)`: the input's tokens, for queries made from
them, and the caller's selection (points, task ids, a dict by modality; None for the default).
It returns Tokens, or a dict of Tokens by modality.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import haiku as hk
import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from perceiver_io.errors import UserError
from perceiver_io.models.perceiver.positions import Positions
from perceiver_io.models.perceiver.tokens import GridPositions, Tokens
from perceiver_io.models.weights import POSITION_INIT


class LearnedQueries(hk.Module):
    """`num_queries` learned vectors, the same for every example."""

    def __init__(self, num_queries: int, dim: int, name: str = "queries"):
        super().__init__(name=name)
        self._shape = (num_queries, dim)

    @property
    def width(self) -> int:
        """C, the channels of a query."""
        return self._shape[1]

    def __call__(self, tokens: Tokens, query: None) -> Tokens:
        """The queries, [1, O, C]."""
        del tokens, query
        return Tokens(hk.get_parameter("embeddings", self._shape, init=POSITION_INIT)[None])


@dataclass(frozen=True)
class PositionQueries:
    """Position encodings as queries: of a dense grid, or of points given by the caller."""

    positions: Positions
    shape: tuple[int, ...]

    @property
    def width(self) -> int:
        """P, the channels of a query."""
        return self.positions.width

    def __call__(self, tokens: Tokens, query: Array | None) -> Tokens:
        """Queries for the grid of `shape`, [1, O, P], or for the points `query`, [B, O, P]."""
        del tokens
        if query is None:
            return Tokens(self.positions.grid(self.shape))
        return Tokens(self.positions.at(query))


class InputQueries:
    """The input tokens themselves, features and positions, as queries."""

    def __call__(self, tokens: Tokens, query: Int[Array, " O"] | None) -> Tokens:
        """All tokens, or those with the indices `query`."""
        return tokens if query is None else _at(tokens, query)


@dataclass(frozen=True)
class FirstInputQueries:
    """The first input tokens, features and positions, as queries.

    share: the default is the first 1 / share of all tokens.
    """

    share: int

    def __call__(self, tokens: Tokens, query: Int[Array, " O"] | None) -> Tokens:
        """The first tokens, or those with the indices `query`."""
        if query is not None:
            return _at(tokens, query)
        first = lambda x: x[:, : -(-x.shape[1] // self.share)]  # noqa: E731
        return jax.tree.map(first, tokens)


class TaskQueries(hk.Module):
    """One learned vector per task (Perceiver IO, section 4.1, multitask query)."""

    def __init__(self, num_tasks: int, dim: int, name: str = "task_queries"):
        super().__init__(name=name)
        self._shape = (num_tasks, dim)

    @property
    def width(self) -> int:
        """C, the channels of a query."""
        return self._shape[1]

    def __call__(self, tokens: Tokens, query: Int[Array, " B"] | None) -> Tokens:
        """One query for the task of each example, [B, 1, C], or those of all T tasks, [1, T, C]."""
        del tokens
        embeddings = hk.get_parameter("embeddings", self._shape, init=POSITION_INIT)
        return Tokens(embeddings[None] if query is None else embeddings[query][:, None])


@runtime_checkable
class Queries(Protocol):
    """A query module."""

    def __call__(self, tokens: Tokens, query: Any) -> Tokens:
        """The queries; all of them if `query` is None."""


@runtime_checkable
class SizedQueries(Queries, Protocol):
    """A query module that tells the width of its queries before it makes any."""

    @property
    def width(self) -> int:
        """C, the channels of a query."""


@dataclass(frozen=True)
class ModalityQueries:
    """A set of queries per modality, padded with learned channels to a common width.

    parts: query modules by modality.
    extra_channels: the common width is the widest modality's plus this, so that every modality has
        learned channels that identify it.
    """

    parts: Mapping[str, Queries]
    extra_channels: int

    def __call__(self, tokens: Tokens, query: Mapping[str, Any] | None) -> dict[str, Tokens]:
        """Queries by modality, for all modalities or only for the keys of `query`.

        Raises UserError for an unknown modality.
        """
        chosen = dict.fromkeys(self.parts) if query is None else query
        unknown = chosen.keys() - self.parts.keys()
        if unknown:
            raise UserError(
                f"The query asks for {sorted(chosen)}, but the model's outputs are "
                f"{sorted(self.parts)}."
            )
        widths = [_width(part, tokens) for part in self.parts.values()]
        width = max(widths) + self.extra_channels
        return {
            name: PaddedChannels(width, POSITION_INIT, name=f"{name}_query_padding")(
                self.parts[name](tokens, chosen[name])
            )
            for name in sorted(chosen)
        }


def _width(part: Queries, tokens: Tokens) -> int:
    """The channels of a module's queries, which are made to find out if it does not tell."""
    return part.width if isinstance(part, SizedQueries) else part(tokens, None).width


class PaddedChannels(hk.Module):
    """Pads tokens to `width` with learned channels, the same for every token."""

    def __init__(self, width: int, init: hk.initializers.Initializer, name: str):
        super().__init__(name=name)
        self._width, self._init = width, init

    def __call__(self, tokens: Tokens) -> Tokens:
        """Tokens [B, M, width] without separate positions."""
        features = tokens.joined()
        missing = self._width - features.shape[-1]
        padding = hk.get_parameter("embeddings", [missing], init=self._init)
        padding = jnp.broadcast_to(padding.astype(features.dtype), (*features.shape[:2], missing))
        return Tokens(jnp.concatenate([features, padding], axis=-1), mask=tokens.mask)


def _at(tokens: Tokens, places: Int[Array, " n"]) -> Tokens:
    """The tokens with the given indices."""
    positions = tokens.positions
    if isinstance(positions, GridPositions):
        row, column = jnp.divmod(places, positions.columns.shape[2])
        positions = positions.rows[:, row] + positions.columns[:, 0, column]
    elif positions is not None:
        positions = positions[:, places]
    mask = None if tokens.mask is None else tokens.mask[:, places]
    return Tokens(tokens.features[:, places], positions, mask)
