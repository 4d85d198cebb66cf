"""Embeds units: the sum of linear maps of the encodings of all features (AlphaStar, 2308.03526)."""

from typing import NamedTuple

import haiku as hk
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from perceiver_io.config.unit_features import (
    UNIT_FEATURES,
    Bits,
    Category,
    Count,
    Encoding,
    Root,
    Share,
)
from perceiver_io.models.layers import linear
from perceiver_io.models.weights import get_linear


class UnitEncoding(NamedTuple):
    """The encodings of units.

    Attributes:
        ones: of one-hot encodings, where the one is; all encodings side by side.
        numbers: shares and binary digits.
    """

    ones: Int[Array, "B U I"]
    numbers: Float[Array, "B U J"]


def _num_ones(encoding: Encoding) -> int:
    """The length of a one-hot encoding; 0 of others."""
    if isinstance(encoding, Category):
        return encoding.size
    if isinstance(encoding, Count):
        return encoding.most + 1
    if isinstance(encoding, Root):
        return int(np.sqrt(encoding.most)) + 1
    return 0


_LENGTHS = tuple(_num_ones(feature.encoding) for feature in UNIT_FEATURES.values())
NUM_ONES = sum(_LENGTHS)


def encoded(units: Float[Array, "B U F"]) -> UnitEncoding:
    """The encodings of `UNIT_FEATURES`, from units [B, U, F] in their order."""
    ones, numbers = [], []
    start = 0
    for index, (_, encoding) in enumerate(UNIT_FEATURES.values()):
        x = units[..., index]
        if isinstance(encoding, Share):
            numbers.append(x / encoding.whole)
        elif isinstance(encoding, Bits):
            numbers += _digits(x, encoding.digits)
        else:
            ones.append(start + _place(x, encoding))
        start += _LENGTHS[index]
    return UnitEncoding(jnp.stack(ones, -1), jnp.stack(numbers, -1))


def _place(x: Float[Array, "B U"], encoding: Category | Count | Root) -> Int[Array, "B U"]:
    """Where the one is."""
    most = encoding.size - 1 if isinstance(encoding, Category) else encoding.most
    limited = jnp.clip(x, 0, most)
    root = jnp.sqrt(limited) if isinstance(encoding, Root) else limited
    return jnp.floor(root).astype(jnp.int32)


def _digits(x: Float[Array, "B U"], count: int) -> list[Float[Array, "B U"]]:
    """Binary digits, the lowest first."""
    whole = jnp.floor(x).astype(jnp.int32)
    return [((whole >> digit) & 1).astype(x.dtype) for digit in range(count)]


class UnitEmbedding(hk.Module):
    """The sum of linear maps of all encodings.

    The maps of one-hot encodings are rows of one table, which are looked up.
    """

    def __init__(self, width: int):
        super().__init__(name="unit_embedding")
        self._width = width

    def __call__(self, units: UnitEncoding) -> Float[Array, "B U C"]:
        """Embedded units."""
        # The sum over all features has a variance of about 1.
        init = hk.initializers.TruncatedNormal(units.ones.shape[-1] ** -0.5)
        table = hk.get_parameter("table", [NUM_ONES, self._width], init=init)
        numbers = get_linear("numbers", units.numbers.shape[-1], self._width)
        return table[units.ones].sum(-2) + linear(numbers, units.numbers.astype(table.dtype))
