"""Perceiver IO (2107.14795): encode, process, query, decode, whatever the data."""

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
    """What the decoder is asked for."""

    def __call__(
        self, tokens: Tokens, query: PyTree[Array] | None
    ) -> Tokens | Mapping[str, Tokens]:
        """Queries, or queries by modality, of one width, as one decoder reads for all of them.

        `tokens` are the input's, and `query` is the caller's choice: points, places, task ids, or a
        dict by modality; None for all.
        """


@dataclass(frozen=True)
class PerceiverIO(EncodingModel):
    """The model; `outputs` are a dict by modality where `queries` makes one."""

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

        Tokens are not there where `input_mask` is False, and queries attend to nothing where
        `query_mask` is; `query` chooses some queries, see `QueryModule`. In training, dropout is on
        and batch norm updates its statistics.
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

    def _decode(self, encoded, queries, query_mask, output, is_training) -> Array:
        if query_mask is not None:
            queries = queries._replace(mask=query_mask)
        return output.arrange(self.decoder(queries, encoded.latents, output, is_training))
