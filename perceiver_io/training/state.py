"""The training state."""

from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PyTree

Params: TypeAlias = PyTree[Array]


class TrainState(NamedTuple):
    """Everything that training changes. Together with the data iterator it forms a checkpoint.

    Attributes:
        step: number of updates so far.
        params: the model's parameters, as nested by Haiku.
        model_state: the model's state other than parameters: batch-norm statistics.
        opt_state: the optimizer's state.
        ema_params: exponential moving average of the parameters, or None.
    """

    step: Int[Array, ""]
    params: Params
    model_state: PyTree[Array]
    opt_state: PyTree[Array]
    ema_params: Params | None

    @property
    def evaluated_params(self) -> Params:
        """The parameters for evaluation: the moving average if there is one."""
        return self.params if self.ema_params is None else self.ema_params


def names(tree: PyTree) -> dict[str, Any]:
    """The leaves of a tree by their paths: `params/encoder/linear/w`, `opt_state/1/count`."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def map_names(fn, tree: PyTree, *rest: PyTree) -> PyTree:
    """`jax.tree.map` with the leaf's path as the first argument of `fn`."""

    def call(path, *leaves):
        return fn(jax.tree_util.keystr(path, simple=True, separator="/"), *leaves)

    return jax.tree_util.tree_map_with_path(call, tree, *rest)


def num_stacked(name: str) -> int:
    """The number of leading axes of a parameter that run over the layers of a `layer_stack`.

    Haiku keeps the parameters of all L layers of a stack in one array with a leading axis [L]. This
    function recognises the default module name, so a `layer_stack` must not be given another name.
    """
    return name.count("__layer_stack")


def initial_state(params: Params, model_state: PyTree, optimizer, *, ema: bool) -> TrainState:
    """The state before the first step; the moving average starts from the parameters."""
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        model_state=model_state,
        opt_state=optimizer.init(params),
        # A copy, since the training step donates its buffers and no buffer can be donated twice.
        ema_params=jax.tree.map(jnp.copy, params) if ema else None,
    )
