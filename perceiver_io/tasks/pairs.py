"""Mixing of adjacent examples of a batch: 0 with 1, 2 with 3 ..."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Shaped

from perceiver_io.errors import UserError


def check_pairs(batch_size: int, remedy: str) -> None:
    """Raises UserError for an odd number of examples; `remedy` is how to do without mixing."""
    if batch_size % 2:
        raise UserError(
            f"A batch of {batch_size} examples cannot be mixed, since mixing works on pairs: "
            "choose an even config.training.batch_size (with config.parallel=pmap, an even number "
            f"of examples per device); or {remedy}."
        )


def of_first(x: Shaped[Array, "B ..."]) -> Shaped[Array, "B ..."]:
    """The values of the first example of each pair, for both."""
    return jnp.repeat(x[::2], 2, axis=0)


def blend(x: Float[Array, "B ..."], own: Float[Array, "B ..."]) -> Float[Array, "B ..."]:
    """Computes own * x + (1 - own) * (the other example of the pair)."""
    return x + (1 - own) * (_other(x) - x)


def is_alike(x: Shaped[Array, " B"]) -> Bool[Array, " B"]:
    """Whether both examples of a pair have the same value."""
    return x == _other(x)


def _other(x: Shaped[Array, "B ..."]) -> Shaped[Array, "B ..."]:
    """The values of the other example of the pair."""
    return x.reshape(-1, 2, *x.shape[1:])[:, ::-1].reshape(x.shape)
