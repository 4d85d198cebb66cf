"""Weights are data: what each part of a model consists of, and how it is read out of Haiku.

Computation is plain functions of these tuples and of arrays: see `layers.py` and `attention.py`.
"""

from typing import NamedTuple

import haiku as hk
import jax.numpy as jnp
from jaxtyping import Array, Float

from perceiver_io.errors import UserError

WEIGHT_INIT = hk.initializers.VarianceScaling(1.0, "fan_in", "truncated_normal")
EMBEDDING_INIT = hk.initializers.TruncatedNormal(0.02)


class Linear(NamedTuple):
    """A linear layer."""

    weight: Float[Array, "I J"]
    bias: Float[Array, " J"]


class LayerNorm(NamedTuple):
    """Scale and offset of a layer norm."""

    scale: Float[Array, " D"]
    offset: Float[Array, " D"]


class MLP(NamedTuple):
    """Two linear layers with a nonlinearity between them."""

    hidden: Linear
    output: Linear


class Attention(NamedTuple):
    """The four linear layers of multi-head attention, the heads side by side in their columns."""

    query: Linear
    key: Linear
    value: Linear
    output: Linear


class CrossAttend(NamedTuple):
    """Attention with a norm on either side, then a normalised MLP."""

    norm_queries: LayerNorm
    norm_inputs: LayerNorm
    attention: Attention
    norm_mlp: LayerNorm
    mlp: MLP


class SelfAttend(NamedTuple):
    """A transformer layer: attention and MLP, each with a norm."""

    norm: LayerNorm
    attention: Attention
    norm_mlp: LayerNorm
    mlp: MLP


def get_linear(
    name: str, input_dim: int, output_dim: int, init: hk.initializers.Initializer = WEIGHT_INIT
) -> Linear:
    """The parameters `name/w` and `name/b` of the module that calls."""
    with hk.name_scope(name):
        return Linear(
            hk.get_parameter("w", [input_dim, output_dim], init=init),
            hk.get_parameter("b", [output_dim], init=jnp.zeros),
        )


def get_layer_norm(name: str, width: int) -> LayerNorm:
    """The parameters `name/scale` and `name/offset`."""
    with hk.name_scope(name):
        return LayerNorm(
            hk.get_parameter("scale", [width], init=jnp.ones),
            hk.get_parameter("offset", [width], init=jnp.zeros),
        )


def get_mlp(width: int, hidden_dim: int) -> tuple[LayerNorm, MLP]:
    """An MLP of `width` under the name `mlp`, and the norm that goes with it."""
    with hk.name_scope("mlp"):
        return get_layer_norm("norm", width), MLP(
            hidden=get_linear("hidden", width, hidden_dim),
            output=get_linear("output", hidden_dim, width),
        )


def get_attention(
    num_heads: int, query_dim: int, input_dim: int, qk_dim: int, v_dim: int, output_dim: int
) -> Attention:
    """Multi-head attention under the name `attention`.

    Args:
        num_heads: must divide `qk_dim` and `v_dim`, else UserError is raised.
        query_dim: width of the queries.
        input_dim: width of the inputs.
        qk_dim: width of projected queries and keys, all heads together.
        v_dim: width of values, all heads together.
        output_dim: width of the result.
    """
    for argument, width in (("qk_dim", qk_dim), ("v_dim", v_dim)):
        if width % num_heads:
            raise UserError(
                f"{hk.experimental.current_name()}: {argument}={width} does not divide into "
                f"{num_heads} heads: choose a multiple of num_heads={num_heads}."
            )
    with hk.name_scope("attention"):
        return Attention(
            query=get_linear("query", query_dim, qk_dim),
            key=get_linear("key", input_dim, qk_dim),
            value=get_linear("value", input_dim, v_dim),
            output=get_linear("output", v_dim, output_dim),
        )
