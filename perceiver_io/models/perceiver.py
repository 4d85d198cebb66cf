"""Perceiver IO (2107.14795) and the original Perceiver (2103.03206), from the same parts."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from perceiver_io.construct import construct
from perceiver_io.models.attention import AttentionForm, attention_form
from perceiver_io.models.blocks import CrossAttend
from perceiver_io.models.chunks import choose_chunk_size, num_rows, split_rows
from perceiver_io.models.folding import Affine
from perceiver_io.models.tokens import Tokens


class Decoder(hk.Module):
    """Queries read the latents; linear maps follow (Perceiver IO, section 3.1).

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
        outputs: Callable[[int], Sequence[Affine]],
        is_training: bool,
    ) -> Float[Array, "B O E"]:
        """Decodes `queries` and applies the linear maps that `outputs` gives for their width."""
        num_queries = num_rows(queries)
        most = self._query_chunk_size
        in_chunks = most is not None and num_queries > most
        size = choose_chunk_size(queries, most) if in_chunks else num_queries
        chunks, restore = split_rows(queries, size)
        first = restore(jax.tree.map(lambda x: x[0], chunks))
        block = construct(CrossAttend, self._cross_attend, "model.decoder.cross_attend").over(
            Tokens(latents),
            queries=first,
            num_queries=num_queries,
            is_training=is_training,
            outputs=outputs(queries.width),
        )
        if not in_chunks:
            return block(queries)
        # One chunk after the other; the gradient recomputes each.
        decoded = jnp.moveaxis(hk.map(hk.remat(lambda x: block(restore(x))), chunks), 0, 1)
        return decoded.reshape(decoded.shape[0], -1, decoded.shape[-1])[:, :num_queries]


class Computation(NamedTuple):
    """In which form and precision a model is computed.

    attention: the form of every attention.
    dtype: precision of everything between inputs and outputs. Parameters are kept in float32 and
        read in this precision; softmax, statistics of norms and the results are float32.
    """

    attention: AttentionForm = AttentionForm()
    dtype: DTypeLike = jnp.float32

    @contextlib.contextmanager
    def in_force(self) -> Iterator[None]:
        """Traces what is inside the context in this way."""
        with (
            attention_form(self.attention),
            hk.custom_creator(_create_in_float32),
            hk.custom_getter(self._read),
        ):
            yield

    def _read(self, next_getter, value, context):
        value = next_getter(value)
        return value if isinstance(context.module, hk.BatchNorm) else value.astype(self.dtype)


def _create_in_float32(next_creator, shape, dtype, init, context):
    # Layers ask for parameters in the precision of their inputs.
    del dtype, context
    return next_creator(shape, jnp.float32, init)


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
    computation: form and precision.
    """

    inputs: Callable[..., Tokens]
    encoder: Callable[[Tokens, bool], Array]
    queries: Callable[[Tokens, Any], Tokens | dict[str, Tokens]]
    decoder: Decoder
    outputs: Any
    computation: Computation = Computation()

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
        with self.computation.in_force():
            dtype = self.computation.dtype
            tokens = encode_inputs(self.inputs, inputs, input_mask, dtype, is_training)
            return Encoded(self.encoder(tokens, is_training), tokens)

    def decode(
        self, encoded: Encoded, *, query: Any = None, query_mask: Any = None, is_training: bool
    ) -> Any:
        """Outputs for any part of the queries."""
        with self.computation.in_force():
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
        queries = queries.astype(self.computation.dtype)
        decoded = self.decoder(queries, encoded.latents, output.maps, is_training)
        return output.arrange(decoded).astype(jnp.float32)


@dataclass(frozen=True)
class Perceiver:
    """The original Perceiver: an encoder and a head on its latents, no queries (2103.03206)."""

    inputs: Callable[..., Tokens]
    encoder: Callable[[Tokens, bool], Array]
    head: Callable[[Array], Array]
    computation: Computation = Computation()

    def __call__(self, inputs: Any, *, input_mask: Any = None, is_training: bool) -> Array:
        """The head's outputs for `inputs`; arguments as in `PerceiverIO`."""
        encoded = self.encode(inputs, input_mask=input_mask, is_training=is_training)
        return self.decode(encoded, is_training=is_training)

    def encode(self, inputs: Any, *, input_mask: Any = None, is_training: bool) -> Encoded:
        """The latents of `inputs`."""
        with self.computation.in_force():
            dtype = self.computation.dtype
            tokens = encode_inputs(self.inputs, inputs, input_mask, dtype, is_training)
            return Encoded(self.encoder(tokens, is_training), tokens)

    def decode(self, encoded: Encoded, *, is_training: bool) -> Array:
        """The head on the latents."""
        del is_training
        with self.computation.in_force():
            return self.head(encoded.latents).astype(jnp.float32)


def encode_inputs(
    adapter: Callable[..., Tokens], inputs: Any, mask: Any, dtype: DTypeLike, is_training: bool
) -> Tokens:
    """The adapter's tokens, with floating-point inputs and all features in `dtype`."""

    def cast(x):
        x = jnp.asarray(x)
        return x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x

    return adapter(jax.tree.map(cast, inputs), mask, is_training).astype(dtype)
