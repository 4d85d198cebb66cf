"""Layers without attention, as functions of their weights: each is one thing."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from perceiver_io.models.weights import MLP, LayerNorm, Linear

# Beyond this size of a table, a product with one-hot rows costs more than the scatter it replaces.
_SMALL_TABLE = 1024


def linear(weights: Linear, x: Float[Array, "... I"]) -> Float[Array, "... J"]:
    """X W + b over the last axis."""
    return x @ weights.weight + weights.bias


def layer_norm(weights: LayerNorm, x: Float[Array, "... D"]) -> Float[Array, "... D"]:
    """The standardised last axis, scaled and offset (1607.06450)."""
    return standardised(x) * weights.scale + weights.offset


def standardised(x: Float[Array, "... D"]) -> Float[Array, "... D"]:
    """The last axis at mean 0 and variance 1; in float32 inside."""
    x32 = x.astype(jnp.float32)
    centred = x32 - x32.mean(axis=-1, keepdims=True)
    variance = jnp.square(centred).mean(axis=-1, keepdims=True)
    return (centred * jax.lax.rsqrt(variance + 1e-5)).astype(x.dtype)


def gelu(x: Array, exact: bool) -> Array:
    """GELU (1606.08415), with the error function or, as the papers' models, by tanh."""
    return jax.nn.gelu(x, approximate=not exact)


def mlp(weights: MLP, x: Float[Array, "... C"], *, exact_gelu: bool) -> Float[Array, "... C"]:
    """Linear, GELU, linear."""
    return linear(weights.output, gelu(linear(weights.hidden, x), exact_gelu))


def dropout(x: Array, rate: float, rng: PRNGKeyArray | None) -> Array:
    """Entries set to zero at `rate`, the others scaled to keep the mean; all kept without `rng`."""
    if rng is None or rate == 0:
        return x
    return jnp.where(jax.random.bernoulli(rng, 1 - rate, x.shape), x / (1 - rate), 0)


def stochastic_depth(
    branch: Float[Array, "B ..."], rate: float, rng: PRNGKeyArray | None
) -> Float[Array, "B ..."]:
    """A residual branch left out for whole examples at `rate` (1603.09382), else scaled.

    The mean stays the same; without `rng` every branch is taken.
    """
    if rng is None or rate == 0:
        return branch
    kept = jax.random.bernoulli(rng, 1 - rate, (len(branch), *[1] * (branch.ndim - 1)))
    return jnp.where(kept, branch / (1 - rate), 0)


@jax.custom_vjp
def embed(table: Float[Array, "V C"], ids: Int[Array, "..."]) -> Float[Array, "... C"]:
    """The rows of `table` that `ids` name.

    The gradient of a small table is a product with one-hot rows: adding many rows into a few, one
    after the other, is what accelerators are slowest at.
    """
    return table[ids]


def _embed_forward(table, ids):
    return table[ids], (ids, table.shape, jnp.zeros((0,), table.dtype))


def _embed_backward(residuals, cotangent):
    ids, (size, width), like = residuals
    ids, cotangent = ids.reshape(-1), cotangent.reshape(-1, width)
    if size <= _SMALL_TABLE:
        rows = jax.nn.one_hot(ids, size, dtype=cotangent.dtype)
        gradient = jnp.einsum("nv,nc->vc", rows, cotangent, preferred_element_type=jnp.float32)
    else:
        gradient = jnp.zeros((size, width), jnp.float32).at[ids].add(cotangent)
    return gradient.astype(like.dtype), None


embed.defvjp(_embed_forward, _embed_backward)
