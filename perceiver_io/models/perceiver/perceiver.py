"""Perceiver IO and the original Perceiver: encode, process, query, decode, whatever the data."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

from jaxtyping import Array, Bool, Float, Int, PyTree

from perceiver_io.models.perceiver.decoder import Decoder, OutputAdapter
from perceiver_io.models.perceiver.encoder import Encoder
from perceiver_io.models.perceiver.tokens import Tokens

QueryMask = Bool[Array, "#B O"]


@runtime_checkable
class InputAdapter(Protocol):
    """From a raw modality to tokens."""

    def __call__(
        self, inputs: PyTree[Array], mask: Bool[Array, "#B M"] | None, is_training: bool
    ) -> Tokens:
        """The tokens of `inputs`; `mask` is over tokens, False for those that are not there."""


@runtime_checkable
class QueryModule(Protocol):
    """What the decoder is asked for."""

    def __call__(
        self, tokens: Tokens, query: PyTree[Array] | None
    ) -> Tokens | Mapping[str, Tokens]:
        """Queries, or queries by modality, of one width, as one decoder reads for all of them.

        Args:
            tokens: of the input, for queries that are made from them.
            query: the caller's choice (points, places, task ids, a dict by modality); None for all.
        """


@runtime_checkable
class Head(Protocol):
    """From latents to an output without queries."""

    def __call__(self, latents: Float[Array, "B N D"]) -> Array:
        """The output."""


class Encoded(NamedTuple):
    """What decoding needs: the latents, and the tokens for queries that are made from them."""

    latents: Float[Array, "B N D"]
    tokens: Tokens


@dataclass(frozen=True)
class _Encoding:
    """What both models begin with.

    inputs: makes tokens.
    encoder: makes latents of them.
    """

    inputs: InputAdapter
    encoder: Encoder

    def encode(
        self,
        inputs: PyTree[Array],
        *,
        input_mask: Bool[Array, "#B M"] | None = None,
        is_training: bool,
    ) -> Encoded:
        """The latents of `inputs`, computed once for any number of `decode`s.

        Args:
            inputs: what the input adapter takes.
            input_mask: False for tokens that are not there.
            is_training: whether dropout is on and batch norm updates its statistics.
        """
        tokens = self.inputs(inputs, input_mask, is_training)
        return Encoded(self.encoder(tokens, is_training), tokens)

    def encoder_maps(
        self,
        inputs: PyTree[Array],
        *,
        input_mask: Bool[Array, "#B M"] | None = None,
        latents: Int[Array, " n"],
    ) -> list[Float[Array, "B H n M"]]:
        """How much some latents attend to each token, in each cross-attend of the encoder."""
        return self.encoder.attention_maps(self.inputs(inputs, input_mask, False), latents)


@dataclass(frozen=True)
class PerceiverIO(_Encoding):
    """Perceiver IO (2107.14795).

    queries: makes queries.
    decoder: reads the latents with them.
    outputs: makes outputs of what was decoded; a dict by modality where the queries are one.
    """

    queries: QueryModule
    decoder: Decoder
    outputs: OutputAdapter | Mapping[str, OutputAdapter]

    def __call__(
        self,
        inputs: PyTree[Array],
        *,
        input_mask: Bool[Array, "#B M"] | None = None,
        query: PyTree[Array] | None = None,
        query_mask: QueryMask | Mapping[str, QueryMask] | None = None,
        is_training: bool,
    ) -> PyTree[Array]:
        """Outputs for `inputs`.

        Args:
            inputs: what the input adapter takes.
            input_mask: False for tokens that are not there.
            query: what the query module takes; None for all of its queries.
            query_mask: False for queries that attend to nothing; a dict by modality where the
                queries are one.
            is_training: whether dropout is on and batch norm updates its statistics.
        """
        encoded = self.encode(inputs, input_mask=input_mask, is_training=is_training)
        return self.decode(encoded, query=query, query_mask=query_mask, is_training=is_training)

    def decode(
        self,
        encoded: Encoded,
        *,
        query: PyTree[Array] | None = None,
        query_mask: QueryMask | Mapping[str, QueryMask] | None = None,
        is_training: bool,
    ) -> PyTree[Array]:
        """Outputs for any part of the queries."""
        queries = self.queries(encoded.tokens, query)
        if isinstance(queries, Tokens):
            return self._decode(encoded, queries, query_mask, self.outputs, is_training)
        masks = query_mask or dict.fromkeys(queries)
        return {
            name: self._decode(encoded, part, masks[name], self.outputs[name], is_training)
            for name, part in queries.items()
        }

    def decoder_map(
        self, encoded: Encoded, *, query: PyTree[Array] | None = None
    ) -> Float[Array, "B H O N"] | dict[str, Float[Array, "B H O N"]]:
        """How much the queries attend to each latent; a dict by modality where they are one."""
        queries = self.queries(encoded.tokens, query)
        if isinstance(queries, Tokens):
            return self.decoder.attention_map(queries, encoded.latents)
        return {
            name: self.decoder.attention_map(part, encoded.latents)
            for name, part in queries.items()
        }

    def _decode(
        self,
        encoded: Encoded,
        queries: Tokens,
        query_mask: QueryMask | None,
        output: OutputAdapter,
        is_training: bool,
    ) -> Array:
        if query_mask is not None:
            queries = queries._replace(mask=query_mask)
        return output.arrange(self.decoder(queries, encoded.latents, output, is_training))


@dataclass(frozen=True)
class Perceiver(_Encoding):
    """The original Perceiver (2103.03206): no queries, but a head on the latents."""

    head: Head

    def __call__(
        self,
        inputs: PyTree[Array],
        *,
        input_mask: Bool[Array, "#B M"] | None = None,
        is_training: bool,
    ) -> Array:
        """The head's outputs for `inputs`; arguments as in `PerceiverIO`."""
        encoded = self.encode(inputs, input_mask=input_mask, is_training=is_training)
        return self.decode(encoded, is_training=is_training)

    def decode(self, encoded: Encoded, *, is_training: bool) -> Array:
        """The head on the latents."""
        del is_training
        return self.head(encoded.latents)
