"""Layers other than attention, as pure functions of their weights."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from perceiver_io.config.annotations import Real
from perceiver_io.models.weights import MLP, LayerNorm, Linear


def linear(weights: Linear, x: Float[Array, "... I"]) -> Float[Array, "... J"]:
    """X W + b over the last axis."""
    return x @ weights.weight + weights.bias


def layer_norm(
    weights: LayerNorm, x: Float[Array, "... D"], epsilon: float = 1e-5
) -> Float[Array, "... D"]:
    """Standardises the last axis, then applies scale and offset (1607.06450)."""
    return standardised(x, epsilon) * weights.scale + weights.offset


def standardised(x: Float[Array, "... D"], epsilon: float = 1e-5) -> Float[Array, "... D"]:
    """Shifts and scales the last axis to mean 0 and variance 1; computes in float32."""
    x32 = x.astype(jnp.float32)
    centred = x32 - x32.mean(axis=-1, keepdims=True)
    variance = jnp.square(centred).mean(axis=-1, keepdims=True)
    return (centred * jax.lax.rsqrt(variance + epsilon)).astype(x.dtype)


def gelu(x: Array, exact: bool) -> Array:
    """GELU (1606.08415), exact (erf) or with the tanh approximation that the papers use."""
    return jax.nn.gelu(x, approximate=not exact)


def mlp(weights: MLP, x: Float[Array, "... C"], *, exact_gelu: bool) -> Float[Array, "... C"]:
    """Linear, GELU, linear."""
    return linear(weights.output, gelu(linear(weights.hidden, x), exact_gelu))


def relu_mlp(weights: MLP, x: Float[Array, "... C"]) -> Float[Array, "... J"]:
    """Linear, ReLU, linear."""
    return linear(weights.output, jax.nn.relu(linear(weights.hidden, x)))


def dropout(x: Array, rate: float, rng: PRNGKeyArray | None) -> Array:
    """Zeroes entries at `rate` and rescales the others; does nothing if `rng` is None."""
    if rng is None or rate == 0:
        return x
    return jnp.where(jax.random.bernoulli(rng, 1 - rate, x.shape), x / (1 - rate), 0)


def stochastic_depth(
    branch: Float[Array, "B ..."], rate: Real | Float[Array, ""], rng: PRNGKeyArray | None
) -> Float[Array, "B ..."]:
    """Drops a residual branch for whole examples at `rate`, else rescales it (1603.09382).

    Does nothing if `rng` is None.
    """
    if rng is None or (isinstance(rate, Real) and rate == 0):
        return branch
    kept = jax.random.bernoulli(rng, 1 - rate, (len(branch), *[1] * (branch.ndim - 1)))
    return jnp.where(kept, branch / (1 - rate), 0).astype(branch.dtype)
