"""Perceiver IO (2107.14795): encode, process, query, decode; and Perceiver (2103.03206), the same
parts in another arrangement.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp
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
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        remat: bool = False,
        name: str = "latent_stack",
    ):
        super().__init__(name=name)
        self._num_layers, self._remat = num_layers, remat
        self._num_heads, self._qk_dim, self._v_dim = num_heads, qk_dim, v_dim
        self._widening = widening
        self._dropout, self._attention_dropout = dropout, attention_dropout

    def __call__(self, latents: Float[Array, "B N D"], is_training: bool) -> Array:
        """The latents after all layers."""

        def layer(x):
            attend = SelfAttend(
                num_heads=self._num_heads,
                qk_dim=self._qk_dim or x.shape[-1],
                v_dim=self._v_dim or x.shape[-1],
                widening=self._widening,
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
        cross_attend = construct(CrossAttend, self._cross_attend, "encoder.cross_attend")
        latents = cross_attend.read(tokens, latents, is_training)
        stack = construct(LatentStack, self._latent_stack, "encoder.latent_stack")
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
            number: construct(CrossAttend, self._cross_attend, "encoder.cross_attend")
            for number in sorted({number for number, _ in self._stages if number is not None})
        }
        stacks = {
            number: construct(LatentStack, self._latent_stack, "encoder.latent_stack")
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


class Decoder(hk.Module):
    """Queries read the latents; a projection follows (Perceiver IO, section 3.1).

    Args:
        cross_attend: keyword arguments of `CrossAttend`.
        query_chunk_size: most queries decoded at once, so that memory does not grow with the
            number of outputs; None for all at once.
    """

    def __init__(
        self,
        cross_attend: Mapping[str, Any],
        query_chunk_size: int | None = None,
        name: str = "decoder",
    ):
        super().__init__(name=name)
        self._cross_attend, self._query_chunk_size = cross_attend, query_chunk_size

    def __call__(
        self,
        queries: Tokens,
        latents: Float[Array, "B N D"],
        project: Callable[[Array], Array],
        is_training: bool,
    ) -> Float[Array, "B O E"]:
        """Decodes `queries`; `project` is applied to each piece of the result."""
        num_queries = queries.features.shape[1]
        block = construct(CrossAttend, self._cross_attend, "decoder.cross_attend").over(
            Tokens(latents),
            query_dim=queries.width,
            num_queries=num_queries,
            is_training=is_training,
        )

        def decode(part: Tokens) -> Array:
            return project(block(part.joined(), part.mask))

        if self._query_chunk_size is None or num_queries <= self._query_chunk_size:
            return decode(queries)
        return _map_chunks(decode, queries, self._query_chunk_size)


def _map_chunks(decode: Callable[[Tokens], Array], queries: Tokens, size: int) -> Array:
    """`decode` over chunks of queries one after the other; its gradient recomputes each chunk."""
    num_queries = queries.features.shape[1]
    num_chunks = -(-num_queries // size)

    def split(x):
        padding = num_chunks * size - num_queries
        x = jnp.pad(x, [(0, 0), (0, padding)] + [(0, 0)] * (x.ndim - 2)) if padding else x
        return jnp.moveaxis(x.reshape(x.shape[0], num_chunks, size, *x.shape[2:]), 1, 0)

    decoded = hk.map(hk.remat(decode), jax.tree.map(split, queries))
    decoded = jnp.moveaxis(decoded, 0, 1)
    return decoded.reshape(decoded.shape[0], -1, decoded.shape[-1])[:, :num_queries]


class Encoded(NamedTuple):
    """What decoding needs: the latents, and the tokens for queries that are made from them."""

    latents: Float[Array, "B N D"]
    tokens: Tokens


@dataclass(frozen=True)
class PerceiverIO:
    """Encode, process, query, decode. Knows no modality.

    inputs: input adapter, see `inputs.py`.
    encoder: `Encoder` or `InterleavedEncoder`.
    queries: query module, see `queries.py`.
    decoder: `Decoder`.
    outputs: output adapter, or a dict of them by modality where the queries are one.
    compute_dtype: precision of everything between inputs and outputs; softmax, normalisation
        statistics and the result are float32.
    """

    inputs: Callable[..., Tokens]
    encoder: Callable[[Tokens, bool], Array]
    queries: Callable[[Tokens, Any], Tokens | dict[str, Tokens]]
    decoder: Decoder
    outputs: Any
    compute_dtype: jnp.dtype = jnp.float32

    def __call__(
        self,
        inputs: Any,
        *,
        input_mask: Any = None,
        query: Any = None,
        query_mask: Any = None,
        is_training: bool,
    ) -> Any:
        """Outputs for `inputs`.

        Args:
            inputs: what the input adapter takes.
            input_mask: [B, M], False for tokens that are not there.
            query: what the query module takes; None for all of its queries.
            query_mask: [B, O], False for queries whose attention is zeros; a dict by modality
                where the queries are one.
            is_training: whether dropout is on and batch norm updates its statistics.
        """
        encoded = self.encode(inputs, input_mask=input_mask, is_training=is_training)
        return self.decode(encoded, query=query, query_mask=query_mask, is_training=is_training)

    def encode(self, inputs: Any, *, input_mask: Any = None, is_training: bool) -> Encoded:
        """The latents of `inputs`, computed once for any number of `decode`s."""
        tokens = encode_inputs(self.inputs, inputs, input_mask, self.compute_dtype, is_training)
        return Encoded(self.encoder(tokens, is_training), tokens)

    def decode(
        self, encoded: Encoded, *, query: Any = None, query_mask: Any = None, is_training: bool
    ) -> Any:
        """Outputs for any part of the queries."""
        queries = self.queries(encoded.tokens, query)
        if isinstance(queries, Tokens):
            return self._decode(encoded, queries, query_mask, self.outputs, is_training)
        masks = dict.fromkeys(queries) if query_mask is None else query_mask
        return {
            name: self._decode(encoded, part, masks[name], self.outputs[name], is_training)
            for name, part in queries.items()
        }

    def _decode(self, encoded, queries, query_mask, output, is_training) -> Array:
        if query_mask is not None:
            queries = queries._replace(mask=query_mask)
        queries = queries.astype(self.compute_dtype)
        decoded = self.decoder(queries, encoded.latents, output.project, is_training)
        return output.arrange(decoded).astype(jnp.float32)


@dataclass(frozen=True)
class Perceiver:
    """The original Perceiver: an encoder and a head on its latents, no queries (2103.03206)."""

    inputs: Callable[..., Tokens]
    encoder: Callable[[Tokens, bool], Array]
    head: Callable[[Array], Array]
    compute_dtype: jnp.dtype = jnp.float32

    def __call__(self, inputs: Any, *, input_mask: Any = None, is_training: bool) -> Array:
        """The head's outputs for `inputs`; arguments as in `PerceiverIO`."""
        encoded = self.encode(inputs, input_mask=input_mask, is_training=is_training)
        return self.decode(encoded, is_training=is_training)

    def encode(self, inputs: Any, *, input_mask: Any = None, is_training: bool) -> Encoded:
        """The latents of `inputs`."""
        tokens = encode_inputs(self.inputs, inputs, input_mask, self.compute_dtype, is_training)
        return Encoded(self.encoder(tokens, is_training), tokens)

    def decode(self, encoded: Encoded, *, is_training: bool) -> Array:
        """The head on the latents."""
        del is_training
        return self.head(encoded.latents).astype(jnp.float32)


def encode_inputs(
    adapter: Callable[..., Tokens], inputs: Any, mask: Any, dtype: jnp.dtype, is_training: bool
) -> Tokens:
    """The adapter's tokens, with floating-point inputs and all features in `dtype`."""

    def cast(x):
        return x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x

    return adapter(jax.tree.map(cast, inputs), mask, is_training).astype(dtype)
