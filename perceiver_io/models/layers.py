"""Layers without attention: normalisation, linear maps as weights, MLP."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from perceiver_io.models.folding import Affine, Grid, Side
from perceiver_io.models.grids import GridPositions, lift, multiply_adds, standardised
from perceiver_io.models.tokens import Tokens

WEIGHT_INIT = hk.initializers.VarianceScaling(1.0, "fan_in", "truncated_normal")


class Norm(NamedTuple):
    """Normalises the last axis to mean 0, variance 1, then scales and offsets it."""

    scale: Float[Array, " D"]
    offset: Float[Array, " D"]

    def __call__(self, x: Float[Array, "... D"]) -> Float[Array, "... D"]:
        """Normalises `x`."""
        x32 = x.astype(jnp.float32)
        centred = x32 - x32.mean(axis=-1, keepdims=True)
        variance = jnp.square(centred).mean(axis=-1, keepdims=True)
        unscaled = (centred * jax.lax.rsqrt(variance + 1e-5)).astype(x.dtype)
        return unscaled * self.scale + self.offset

    def side(self, tokens: Tokens, num_at_once: int, total: int) -> Side:
        """Normalised tokens as one side of an attention.

        Args:
            tokens: some of the tokens, or all.
            num_at_once: how many of them are multiplied at once.
            total: how many there are.
        """
        positions, channels = tokens.positions, tokens.features.shape[-1]
        side = Side(total, tokens.width, lambda part: self(part.joined()))
        if not isinstance(positions, GridPositions):
            return side
        return side._replace(
            grid=Grid(
                lambda part: standardised(part.features, part.positions),
                Affine(lift(channels, positions) * self.scale, self.offset),
                multiply_adds(channels, positions, num_at_once),
            )
        )


class LayerNorm(hk.Module):
    """Normalises the last axis to mean 0, variance 1, then scales and offsets it."""

    def function(self, width: int) -> Norm:
        """The layer as a function without parameters of its own, to be used inside loops."""
        scale = hk.get_parameter("scale", [width], init=jnp.ones)
        offset = hk.get_parameter("offset", [width], init=jnp.zeros)

        return Norm(scale, offset)

    def __call__(self, x: Float[Array, "... D"]) -> Float[Array, "... D"]:
        """Normalises `x`."""
        return self.function(x.shape[-1])(x)


class Perceptron(NamedTuple):
    """The weights of an MLP block: a norm, a map, an activation, a map back to the same width."""

    normalise: Callable[[Array], Array]
    hidden: Affine
    activation: Callable[[Array], Array]
    output: Affine

    def __call__(self, x: Float[Array, "... C"]) -> Float[Array, "... J"]:
        """The residual branch: `x` itself is not added."""
        return self.output(self.activation(self.hidden(self.normalise(x))))


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
