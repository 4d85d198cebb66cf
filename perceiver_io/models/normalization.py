"""Input normalisation on the device: subtract each channel's mean, divide by its std."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Real

from perceiver_io.config.annotations import Normalization
from perceiver_io.errors import UserError
from perceiver_io.models.architectures import Architecture


def normalized(model: Architecture, normalization: Normalization | None) -> Architecture:
    """The model with normalisation in front: takes inputs [..., C] in 0 to 255, of any dtype.

    Args:
        model: takes normalised `inputs`.
        normalization: mean and standard deviation of each channel, for values scaled to 0 to 1.
            None returns the model unchanged.

    Raises UserError for values that are not finite, and standard deviations that are not positive.
    """
    if normalization is None:
        return model
    _check(*normalization)

    def around(function: Callable | None) -> Callable | None:
        def call(*arguments: Any, inputs: ArrayLike, **keywords: Any) -> Any:
            normal = _normalize(jnp.asarray(inputs), *normalization)
            return function(*arguments, inputs=normal, **keywords)

        return function and call

    names = ("init", "apply", "encode", "encoder_maps")
    return dataclasses.replace(model, **{name: around(getattr(model, name)) for name in names})


def _check(mean: Sequence[float], std: Sequence[float]) -> None:
    if not (np.isfinite(mean).all() and np.isfinite(std).all() and np.min(std) > 0):
        raise UserError(
            f"Inputs cannot be normalised by mean={tuple(mean)} and std={tuple(std)}: both must be "
            "finite, and std above 0. Correct them where they stand, in the config of a training, "
            "or in the preparation.json or preprocessor_config.json of trained weights."
        )


def _normalize(
    inputs: Real[Array, "... C"], mean: Sequence[float], std: Sequence[float]
) -> Float[Array, "... C"]:
    mean, std = np.float32(mean), np.float32(std)
    return inputs.astype(jnp.float32) * (1 / (255 * std)) - mean / std
