"""The linear maps around attention, and how they fold into each other.

With one head, (x Wk) . q = x . (q Wk^T) and A (x Wv) = (A x) Wv: the projection of the many can
move to the side of the few, and adjacent maps multiply into one. The function stays the same:

- a key bias adds the same number to every logit of a query, which softmax ignores;
- a query bias adds one number per key;
- a value bias passes through the weights, which sum to one (unless dropout thins them).

Maps with nothing between them multiply into one: a decoder's MLP ends in a linear layer, and its
outputs begin with another.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from perceiver_io.models.attention import KeysValues


class Affine(NamedTuple):
    """x W + b."""

    weight: Float[Array, "I J"]
    bias: Float[Array, " J"]

    def __call__(self, x: Float[Array, "... I"]) -> Float[Array, "... J"]:
        """Applies the map to the last axis."""
        return x @ self.weight + self.bias

    def then(self, other: "Affine") -> "Affine":
        """This map followed by another, as one."""
        return Affine(self.weight @ other.weight, other(self.bias))


class Perceptron(NamedTuple):
    """The weights of an MLP block: a norm, a map, an activation, a map back to the same width."""

    normalise: Callable[[Array], Array]
    hidden: Affine
    activation: Callable[[Array], Array]
    output: Affine

    def __call__(self, x: Float[Array, "... C"]) -> Float[Array, "... J"]:
        """The residual branch: `x` itself is not added."""
        return self.output(self.activation(self.hidden(self.normalise(x))))


class AttentionWeights(NamedTuple):
    """The four learned maps of multi-head attention, heads side by side in the columns."""

    query: Affine
    key: Affine
    value: Affine
    output: Affine


class AttentionMaps(NamedTuple):
    """What is done around the attention itself.

    query: [b, O, Cq] -> [b, O, H, K]; keys_values: [B, M, C] -> KeysValues;
    output: [B, O, H, V], and 1 or 0 for queries that attended to something or nothing -> [B, O, E].
    """

    query: Callable
    keys_values: Callable
    output: Callable


def plain_maps(weights: AttentionWeights, num_heads: int) -> AttentionMaps:
    """Projects each of queries, keys, values and outputs, as in Vaswani et al. (1706.03762)."""

    def split(x):
        return x.reshape(*x.shape[:-1], num_heads, x.shape[-1] // num_heads)

    return AttentionMaps(
        query=lambda x: split(weights.query(x)),
        keys_values=lambda x: KeysValues(split(weights.key(x)), split(weights.value(x))),
        output=lambda y, attended: weights.output(y.reshape(*y.shape[:2], -1)),
    )


def folded_maps(
    weights: AttentionWeights, *, num_queries: int, num_inputs: int, dropout: bool
) -> AttentionMaps:
    """The maps of one-head attention with the fewest FLOPs at these sizes.

    Args:
        weights: of an attention with a single head.
        num_queries: queries per example.
        num_inputs: inputs per example.
        dropout: whether attention weights are dropped, so that they do not sum to one.
    """
    _, query, keys, key_bias = min(
        _score_options(weights, num_queries, num_inputs), key=lambda option: option[0]
    )
    _, values, output = min(
        _value_options(weights, num_queries, num_inputs, dropout), key=lambda option: option[0]
    )
    return AttentionMaps(
        query=lambda x: query(x)[:, :, None],
        keys_values=lambda x: KeysValues(keys(x)[:, :, None], values(x)[:, :, None], key_bias(x)),
        output=lambda y, attended: output(y[:, :, 0], attended),
    )


def _identity(x):
    return x


def _score_options(weights: AttentionWeights, num_queries: int, num_inputs: int):
    """(multiply-adds, query map, key map, key bias) for each side that logits may be taken on."""
    query, key = weights.query, weights.key
    query_dim, qk_dim = query.weight.shape
    input_dim, _ = key.weight.shape
    project_queries = num_queries * query_dim * qk_dim
    project_keys = num_inputs * input_dim * qk_dim
    pairs = num_queries * num_inputs
    return [
        (project_queries + project_keys + pairs * qk_dim, query, key, lambda x: None),
        (
            project_queries + num_queries * qk_dim * input_dim + pairs * input_dim,
            lambda x: query(x) @ key.weight.T,
            _identity,
            lambda x: None,
        ),
        (
            project_keys + num_inputs * qk_dim * query_dim + pairs * query_dim,
            _identity,
            lambda x: key(x) @ query.weight.T,
            lambda x: x @ (key.weight @ query.bias),
        ),
    ]


def _value_options(weights: AttentionWeights, num_queries: int, num_inputs: int, dropout: bool):
    """(multiply-adds, value map, output map) for each place that values may be projected at."""
    value, output = weights.value, weights.output
    input_dim, v_dim = value.weight.shape
    _, output_dim = output.weight.shape
    project_values = num_inputs * input_dim * v_dim
    project_outputs = num_queries * v_dim * output_dim
    pairs = num_queries * num_inputs

    def project_attended(y, attended):
        return output(y @ value.weight + attended[:, :, None] * value.bias)

    options = [
        (project_values + pairs * v_dim + project_outputs, value, lambda y, attended: output(y)),
        (
            project_values + num_inputs * v_dim * output_dim + pairs * output_dim,
            lambda x: value(x) @ output.weight,
            lambda y, attended: y + output.bias,
        ),
    ]
    late = num_queries * input_dim * v_dim + pairs * input_dim + project_outputs
    return options if dropout else [*options, (late, _identity, project_attended)]


def merged(maps: Sequence[Affine], num_rows: int) -> list[Affine]:
    """Maps to be applied in turn, adjacent ones multiplied where that takes fewer FLOPs.

    Args:
        maps: the maps, first one first.
        num_rows: rows that they are applied to.
    """
    *others, last = maps
    result = [last]
    for first in reversed(others):
        second = result[0]
        (inputs, inner), (_, outputs) = first.weight.shape, second.weight.shape
        together = inputs * inner * outputs + num_rows * inputs * outputs
        if together < num_rows * (inputs * inner + inner * outputs):
            result[0] = first.then(second)
        else:
            result.insert(0, first)
    return result


def project_residual(mlp: Perceptron, project: Affine, num_rows: int) -> Callable[[Array], Array]:
    """The function project(x + mlp(x)) of `num_rows` rows, with the fewest FLOPs.

    (x + h W) P = x P + h (W P): the MLP's last map goes straight to a narrower output.
    """
    width, outputs = project.weight.shape
    if outputs * (num_rows + width) >= width * num_rows:
        return lambda x: project(x + mlp(x))
    direct = mlp._replace(
        output=mlp.output.then(Affine(project.weight, jnp.zeros_like(project.bias)))
    )
    return lambda x: project(x) + direct(x)


def attended_queries(
    query_mask: Array | None, key_mask: Array | None, dtype: jnp.dtype
) -> Float[Array, "B O"]:
    """1 for queries that attend to at least one key, 0 for the others; [1, 1] ones if no masks."""
    attended = jnp.ones((1, 1), bool)
    if key_mask is not None:
        attended = attended & key_mask.any(axis=-1, keepdims=True)
    if query_mask is not None:
        attended = attended & query_mask
    return attended.astype(dtype)
