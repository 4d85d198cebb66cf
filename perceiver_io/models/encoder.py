"""The encoder: learned latents read the inputs and process what they read."""

from collections.abc import Mapping, Sequence
from typing import Any

import haiku as hk
from jaxtyping import Array, Float

from perceiver_io.construct import construct
from perceiver_io.models.blocks import CrossAttend, SelfAttend
from perceiver_io.models.positions import EMBEDDING_INIT
from perceiver_io.models.tokens import Tokens


class LatentStack(hk.Module):
    """Self-attention layers over the latents, compiled as one scanned layer.

    Args:
        num_layers: layers, each with weights of its own.
        num_heads: attention heads.
        qk_dim: total width of queries and keys; None for that of the latents.
        v_dim: total width of values; None for that of the latents.
        widening: width of the MLP's hidden layer over that of the latents.
        exact_gelu: as in `MLP`.
        dropout: rate on the residual branches.
        attention_dropout: rate on attention weights.
        remat: whether the gradient recomputes each layer instead of storing what is inside it.
    """

    def __init__(
        self,
        num_layers: int,
        num_heads: int,
        qk_dim: int | None = None,
        v_dim: int | None = None,
        widening: int = 1,
        exact_gelu: bool = False,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        remat: bool = False,
        name: str = "latent_stack",
    ):
        super().__init__(name=name)
        self._num_layers, self._remat = num_layers, remat
        self._num_heads, self._qk_dim, self._v_dim = num_heads, qk_dim, v_dim
        self._widening, self._exact_gelu = widening, exact_gelu
        self._dropout, self._attention_dropout = dropout, attention_dropout

    def __call__(self, latents: Float[Array, "B N D"], is_training: bool) -> Array:
        """The latents after all layers."""

        def layer(x):
            attend = SelfAttend(
                num_heads=self._num_heads,
                qk_dim=self._qk_dim or x.shape[-1],
                v_dim=self._v_dim or x.shape[-1],
                widening=self._widening,
                exact_gelu=self._exact_gelu,
                dropout=self._dropout,
                attention_dropout=self._attention_dropout,
            )
            return attend(x, None, is_training)

        layer = hk.remat(layer) if self._remat else layer
        return hk.experimental.layer_stack(self._num_layers)(layer)(latents)


class Encoder(hk.Module):
    """Learned latents read the inputs once, then pass through the latent stack.

    Args:
        num_latents: N.
        latent_dim: D.
        num_blocks: times that the whole stack is applied, with the same weights.
        cross_attend: keyword arguments of `CrossAttend`.
        latent_stack: keyword arguments of `LatentStack`.
    """

    def __init__(
        self,
        num_latents: int,
        latent_dim: int,
        num_blocks: int,
        cross_attend: Mapping[str, Any],
        latent_stack: Mapping[str, Any],
        name: str = "encoder",
    ):
        super().__init__(name=name)
        self._num_latents, self._latent_dim = num_latents, latent_dim
        self._num_blocks = num_blocks
        self._cross_attend, self._latent_stack = cross_attend, latent_stack

    def __call__(self, tokens: Tokens, is_training: bool) -> Float[Array, "B N D"]:
        """Encodes the tokens."""
        latents = initial_latents(self._num_latents, self._latent_dim, tokens)
        cross_attend = construct(CrossAttend, self._cross_attend, "model.encoder.cross_attend")
        latents = cross_attend.read(tokens, latents, is_training)
        stack = construct(LatentStack, self._latent_stack, "model.encoder.latent_stack")
        if self._num_blocks == 1:
            return stack(latents, is_training)
        # A scan over the blocks compiles the stack once, however many blocks there are.
        block = lambda x, _: (stack(x, is_training), None)  # noqa: E731
        return hk.scan(block, latents, None, length=self._num_blocks)[0]


class InterleavedEncoder(hk.Module):
    """Cross-attends and latent stacks in turn, with weights shared at will (Perceiver, 3.1).

    Args:
        num_latents: N.
        latent_dim: D.
        cross_attends: for each stage, the number of the cross-attend that comes first, or None
            for none. Stages with the same number share weights.
        stacks: for each stage, the number of the latent stack that follows.
        cross_attend: keyword arguments of every `CrossAttend`.
        latent_stack: keyword arguments of every `LatentStack`.
    """

    def __init__(
        self,
        num_latents: int,
        latent_dim: int,
        cross_attends: Sequence[int | None],
        stacks: Sequence[int],
        cross_attend: Mapping[str, Any],
        latent_stack: Mapping[str, Any],
        name: str = "encoder",
    ):
        super().__init__(name=name)
        self._num_latents, self._latent_dim = num_latents, latent_dim
        self._stages = tuple(zip(cross_attends, stacks, strict=True))
        self._cross_attend, self._latent_stack = cross_attend, latent_stack

    def __call__(self, tokens: Tokens, is_training: bool) -> Float[Array, "B N D"]:
        """Encodes the tokens."""
        latents = initial_latents(self._num_latents, self._latent_dim, tokens)
        cross_attends = {
            number: construct(CrossAttend, self._cross_attend, "model.encoder.cross_attend")
            for number in sorted({number for number, _ in self._stages if number is not None})
        }
        stacks = {
            number: construct(LatentStack, self._latent_stack, "model.encoder.latent_stack")
            for number in sorted({number for _, number in self._stages})
        }
        for cross_attend, stack in self._stages:
            if cross_attend is not None:
                latents = cross_attends[cross_attend].read(tokens, latents, is_training)
            latents = stacks[stack](latents, is_training)
        return latents


def initial_latents(num_latents: int, latent_dim: int, tokens: Tokens) -> Float[Array, "1 N D"]:
    """The learned latents, the same for every example, in the tokens' precision."""
    latents = hk.get_parameter("latents", [num_latents, latent_dim], init=EMBEDDING_INIT)
    return latents[None].astype(tokens.features.dtype)
