"""Perceiver IO (2107.14795): encode, process, query and decode, for any modality."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from jaxtyping import Array, Bool, PyTree

from perceiver_io.models.perceiver.decoder import Decoder, OutputAdapter
from perceiver_io.models.perceiver.encoder import Encoded, EncodingModel
from perceiver_io.models.perceiver.tokens import Tokens

QueryMask = Bool[Array, "#B O"]


@runtime_checkable
class QueryModule(Protocol):
    """Makes the decoder's queries."""

    def __call__(
        self, tokens: Tokens, query: PyTree[Array] | None
    ) -> Tokens | Mapping[str, Tokens]:
        """Queries, or a dict of them; `query` selects points, indices or task ids; None for all."""


@dataclass(frozen=True)
class PerceiverIO(EncodingModel):
    """The model. With a dict of queries `outputs` is a dict too, and `decoder` may be one."""

    queries: QueryModule
    decoder: Decoder | Mapping[str, Decoder]
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

        Tokens whose `input_mask` is False are ignored; queries whose `query_mask` is False attend
        to nothing; for `query` see `QueryModule`. Training uses dropout and batch statistics.
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
        """Outputs for all queries, or for the subset selected by `query`."""
        queries = self.queries(encoded.tokens, query)
        if isinstance(queries, Tokens):
            return self._decode(encoded, queries, query_mask, None, is_training)
        masks = query_mask or {}
        return {
            name: self._decode(encoded, part, masks.get(name), name, is_training)
            for name, part in queries.items()
        }

    def _decode(self, encoded, queries, query_mask, name, is_training) -> Array:
        if query_mask is not None:
            queries = queries._replace(mask=query_mask)
        output = self.outputs if name is None else self.outputs[name]
        decoded = self.decoder_of(name)(queries, encoded.latents, output, is_training)
        return output.arrange(decoded)

    def decoder_of(self, name: str | None) -> Decoder:
        """The decoder for the queries of this name; all names may share one decoder."""
        return self.decoder[name] if isinstance(self.decoder, Mapping) else self.decoder
