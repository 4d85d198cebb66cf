"""The weights of each layer as NamedTuples, and functions that get them from Haiku."""

from typing import NamedTuple

import haiku as hk
import jax.numpy as jnp
from jaxtyping import Array, Float

from perceiver_io.config.annotations import Real
from perceiver_io.errors import UserError
from perceiver_io.models.settings import BlockSettings
from perceiver_io.roles import TaggedInit

WEIGHT_INIT = hk.initializers.VarianceScaling(1.0, "fan_in", "truncated_normal")
EMBEDDING_INIT = hk.initializers.TruncatedNormal(0.02)
POSITION_INIT = TaggedInit(EMBEDDING_INIT, "position")
BIAS_INIT = TaggedInit(jnp.zeros, "bias_or_norm")
SCALE_INIT = TaggedInit(jnp.ones, "bias_or_norm")


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
    """The four linear layers of multi-head attention, with all heads' columns concatenated."""

    query: Linear
    key: Linear
    value: Linear
    output: Linear


class CrossAttend(NamedTuple):
    """Cross-attention with norms of queries and inputs, then an MLP with its norm."""

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
    """The parameters `name/w` and `name/b` of the calling module."""
    with hk.name_scope(name):
        return Linear(
            hk.get_parameter("w", [input_dim, output_dim], init=init),
            hk.get_parameter("b", [output_dim], init=BIAS_INIT),
        )


def get_layer_norm(name: str, width: int) -> LayerNorm:
    """The parameters `name/scale` and `name/offset`."""
    with hk.name_scope(name):
        return LayerNorm(
            hk.get_parameter("scale", [width], init=SCALE_INIT),
            hk.get_parameter("offset", [width], init=BIAS_INIT),
        )


def get_mlp(width: int, widening: Real) -> tuple[LayerNorm, MLP]:
    """An MLP named `mlp`, preceded by its norm."""
    hidden_dim = max(round(widening * width), 1)
    with hk.name_scope("mlp"):
        hidden = get_linear("hidden", width, hidden_dim)
        output = get_linear("output", hidden_dim, width)
        return get_layer_norm("norm", width), MLP(hidden, output)


def get_attention(settings: BlockSettings, query_dim: int, input_dim: int) -> Attention:
    """Multi-head attention named `attention`, whose output is as wide as its queries.

    Raises UserError for widths that are not multiples of the number of heads.
    """
    qk_dim, v_dim = settings.qk_dim or input_dim, settings.v_dim or input_dim
    for argument, width in (("qk_dim", qk_dim), ("v_dim", v_dim)):
        if width % settings.num_heads:
            raise UserError(
                f"{hk.experimental.current_name()}: {argument}={width} does not divide into "
                f"num_heads={settings.num_heads} heads: choose a multiple of that."
            )
    with hk.name_scope("attention"):
        return Attention(
            query=get_linear("query", query_dim, qk_dim),
            key=get_linear("key", input_dim, qk_dim),
            value=get_linear("value", input_dim, v_dim),
            output=get_linear("output", v_dim, query_dim),
        )
