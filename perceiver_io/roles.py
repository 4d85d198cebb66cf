"""The roles of parameters, told where they are made: what optimizers and warm starts ask for."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Literal

from jax.typing import DTypeLike
from jaxtyping import Array

Role = Literal["bias_or_norm", "position"]
"""A bias, or the scale or offset of a norm; a learned position, latent or query."""


@dataclasses.dataclass(frozen=True)
class TaggedInit:
    """An initializer that also tells what its parameter is, where that is no plain weight.

    role: see `Role`.
    grid: of a table of positions [M, P], the grid whose M places are its rows in array order.
    """

    init: Callable[[Sequence[int], DTypeLike], Array]
    role: Role
    grid: tuple[int, ...] | None = None

    def __call__(self, shape: Sequence[int], dtype: DTypeLike) -> Array:
        """The parameter's initial value."""
        return self.init(shape, dtype)
