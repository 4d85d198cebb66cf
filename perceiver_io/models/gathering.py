"""Parameters of which each device stores a shard, and has all where a layer uses them.

The shards are those of the axis `fsdp` of the mesh that a program is compiled for, see
`perceiver_io.training.parallel.Mesh`. Within a stack of layers, only one layer's parameters are
whole at a time; the backward pass brings them together again. XLA left to itself would at times
keep the shards where they are, and add up activations over devices instead, which are larger.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.sharding import PartitionSpec
from jax.typing import DTypeLike
from jaxtyping import Array

from perceiver_io.axes import FSDP, shard_spec


def gathered(parameter: Array, dtype: DTypeLike) -> Array:
    """The whole of a float32 parameter on each device, in `dtype`.

    Its gradient is the sum over all devices, of which each has its shard.
    """
    if not is_sharded():
        return parameter.astype(dtype)
    return _gathered(parameter, dtype)


def keep_all_but_gathered(primitive: Primitive, *_: Any, **__: Any) -> bool:
    """A policy of rematerialisation: nothing is recomputed, but whole parameters are not kept."""
    return primitive.name != "sharding_constraint"


def is_sharded() -> bool:
    """Whether devices store shards of parameters."""
    return _num_shards() > 1


def _whole(parameter: Array, dtype: DTypeLike) -> Array:
    # What is sent has been cast.
    return jax.lax.with_sharding_constraint(parameter.astype(dtype), PartitionSpec())


def _forward(parameter: Array, dtype: DTypeLike) -> tuple[Array, None]:
    return _whole(parameter, dtype), None


def _backward(dtype: DTypeLike, _: None, gradient: Array) -> tuple[Array]:
    del dtype
    spec = PartitionSpec(*shard_spec(gradient.shape, _num_shards()))
    return (jax.lax.with_sharding_constraint(gradient.astype(jnp.float32), spec),)


_gathered = jax.custom_vjp(_whole, nondiff_argnums=(1,))
_gathered.defvjp(_forward, _backward)


def _num_shards() -> int:
    return jax.sharding.get_abstract_mesh().shape.get(FSDP, 1)
