"""Batch norm with the settings that all convolutional layers use."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import haiku as hk
import jax.numpy as jnp
from jaxtyping import PyTree

from perceiver_io.models.weights import BIAS_INIT, SCALE_INIT
from perceiver_io.roles import TaggedInit

BATCH_NORM: dict[str, Any] = dict(
    create_scale=True, create_offset=True, decay_rate=0.9, eps=1e-5, offset_init=BIAS_INIT
)


def batch_norm(name: str, epsilon: float = 1e-5) -> hk.BatchNorm:
    """Batch norm with scale and offset; its running statistics decay at 0.9."""
    return hk.BatchNorm(**BATCH_NORM | dict(eps=epsilon, scale_init=SCALE_INIT, name=name))


@contextlib.contextmanager
def in_haiku_networks() -> Iterator[None]:
    """Batch norms inside Haiku's own networks compute in float32, and their scales have roles."""
    with hk.intercept_methods(_in_float32):
        yield


def _in_float32(
    next_method: Callable[..., PyTree], arguments: tuple, keywords: dict, context: hk.MethodContext
) -> PyTree:
    norm = context.module
    if not isinstance(norm, hk.BatchNorm) or context.method_name != "__call__":
        return next_method(*arguments, **keywords)
    # Haiku's networks choose the initial scales themselves.
    norm.scale_init = TaggedInit(norm.scale_init, "bias_or_norm")
    x, *others = arguments
    return next_method(x.astype(jnp.float32), *others, **keywords).astype(x.dtype)
