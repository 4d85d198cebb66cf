"""The roles of parameters, declared at their creation for optimizers and warm starts."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Literal

from jax.typing import DTypeLike
from jaxtyping import Array

Role = Literal["bias_or_norm", "position"]
"""A bias, or the scale or offset of a norm; a learned position, latent or query."""


@dataclasses.dataclass(frozen=True)
class TaggedInit:
    """An initializer that also declares the role of its parameter; plain weights have none.

    role: see `Role`.
    grid: for a table of positions [M, P], the shape of the grid whose M cells, in array order, are
        its rows.
    """

    init: Callable[[Sequence[int], DTypeLike], Array]
    role: Role
    grid: tuple[int, ...] | None = None

    def __call__(self, shape: Sequence[int], dtype: DTypeLike) -> Array:
        """The parameter's initial value."""
        return self.init(shape, dtype)
