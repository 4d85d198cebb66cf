"""Layers without attention: normalisation, linear maps as weights, MLP."""

from collections.abc import Callable
from functools import partial

import haiku as hk
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from perceiver_io.models.folding import Affine, Perceptron

WEIGHT_INIT = hk.initializers.VarianceScaling(1.0, "fan_in", "truncated_normal")


class LayerNorm(hk.Module):
    """Normalises the last axis to mean 0, variance 1, then scales and offsets it."""

    def function(self, width: int) -> Callable[[Array], Array]:
        """The layer as a function without parameters of its own, to be used inside loops."""
        scale = hk.get_parameter("scale", [width], init=jnp.ones)
        offset = hk.get_parameter("offset", [width], init=jnp.zeros)

        def normalise(x):
            x32 = x.astype(jnp.float32)
            centred = x32 - x32.mean(axis=-1, keepdims=True)
            variance = jnp.square(centred).mean(axis=-1, keepdims=True)
            return (centred * jax.lax.rsqrt(variance + 1e-5)).astype(x.dtype) * scale + offset

        return normalise

    def __call__(self, x: Float[Array, "... D"]) -> Float[Array, "... D"]:
        """Normalises `x`."""
        return self.function(x.shape[-1])(x)


class Projection(hk.Module):
    """The weights of a linear layer, for code that multiplies them in an order of its own."""

    def __init__(
        self, output_dim: int, name: str, w_init: hk.initializers.Initializer = WEIGHT_INIT
    ):
        super().__init__(name=name)
        self._output_dim, self._w_init = output_dim, w_init

    def __call__(self, input_dim: int) -> Affine:
        """The map from width `input_dim`."""
        return Affine(
            hk.get_parameter("w", [input_dim, self._output_dim], init=self._w_init),
            hk.get_parameter("b", [self._output_dim], init=jnp.zeros),
        )


class MLP(hk.Module):
    """LayerNorm, linear to `widening` times the width, GELU, linear back.

    Args:
        widening: width of the hidden layer over that of the input.
        exact_gelu: whether GELU is taken with the error function, instead of its approximation by
            tanh, which the papers' models were trained with.
    """

    def __init__(self, widening: int, exact_gelu: bool = False, name: str = "mlp"):
        super().__init__(name=name)
        self._widening, self._exact_gelu = widening, exact_gelu

    @hk.name_like("__call__")
    def function(self, width: int) -> Perceptron:
        """The block as a function without parameters of its own, to be used inside loops."""
        hidden_dim = self._widening * width
        return Perceptron(
            normalise=LayerNorm(name="norm").function(width),
            hidden=Projection(hidden_dim, name="hidden")(width),
            activation=partial(jax.nn.gelu, approximate=not self._exact_gelu),
            output=Projection(width, name="output")(hidden_dim),
        )

    def __call__(self, x: Float[Array, "B O C"]) -> Float[Array, "B O C"]:
        """The residual branch: `x` itself is not added."""
        return self.function(x.shape[-1])(x)
