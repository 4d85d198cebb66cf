"""The dtype in which a model computes."""

import dataclasses
from collections.abc import Callable

import haiku as hk
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, PyTree

from perceiver_io.models.gathering import gathered
from perceiver_io.models.perceiver.inputs import as_given

DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}
"""The choices of `compute_dtype`."""


@dataclasses.dataclass(frozen=True)
class Precision:
    """The compute dtype of everything between the inputs and outputs of a model.

    Parameters are stored in float32 and cast to this dtype on use; softmax, the statistics of norms
    and the results are in float32.
    """

    dtype: DTypeLike

    def around(self, method: Callable, features: Callable[[PyTree], PyTree] = as_given) -> Callable:
        """The method with casts of its inputs, parameters and results, on whole parameters.

        Before the casts, `features` is applied to the keyword argument `inputs`, if there is one.
        """

        def call(*arguments: PyTree, **keywords: PyTree) -> PyTree[Array]:
            if "inputs" in keywords:
                keywords["inputs"] = features(_cast(keywords["inputs"], None))
            # A query may hold coordinates, which need full precision.
            exact = {"query": _cast(keywords.pop("query"), None)} if "query" in keywords else {}
            arguments, keywords = _cast((arguments, keywords), self.dtype)
            with hk.custom_creator(_create_in_float32), hk.custom_getter(self._read):
                return _cast(method(*arguments, **keywords, **exact), jnp.float32)

        return call

    def _read(self, next_getter, value, context):
        value = next_getter(value)
        is_exact = isinstance(context.module, hk.BatchNorm)
        return gathered(value, value.dtype if is_exact else self.dtype)


def _create_in_float32(next_creator, shape, dtype, init, context):
    # Layers request parameters in the dtype of their inputs.
    del dtype, context
    return next_creator(shape, jnp.float32, init)


def _cast(tree: PyTree, dtype: DTypeLike | None) -> PyTree:
    """The tree with all floating-point arrays cast to `dtype`, unless that is None."""

    def cast(x):
        if not hasattr(x, "dtype"):
            return x
        return jnp.asarray(x, dtype if jnp.issubdtype(x.dtype, jnp.floating) else None)

    return jax.tree.map(cast, tree)
