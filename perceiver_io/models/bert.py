"""BERT (1810.04805) for masked language modelling: the baseline of Perceiver IO, section 4.1."""

from dataclasses import dataclass
from typing import NamedTuple

import haiku as hk
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from perceiver_io.models.layers import dropout, layer_norm, linear
from perceiver_io.models.perceiver.encoder import LatentStack
from perceiver_io.models.perceiver.outputs import TiedLogits
from perceiver_io.models.perceiver.positions import LearnedPositions
from perceiver_io.models.perceiver.text import Embeddings, first
from perceiver_io.models.settings import AttentionForm, LatentStackSettings
from perceiver_io.models.weights import get_layer_norm


class Encoded(NamedTuple):
    """The vector of each token."""

    features: Float[Array, "B M C"]


@dataclass(frozen=True)
class BERT:
    """A transformer over all tokens, and logits at chosen places from the tied embeddings.

    There are no segments, and no further layer before the logits, as the number of parameters in
    the Perceiver IO paper implies.

    embeddings: of the token ids.
    positions: added to them.
    layers: the transformer layers. With their norms after the additions, as in BERT, embeddings are
        normalised too; with their norms before, the result is.
    form: how attention is computed.
    """

    embeddings: Embeddings
    positions: LearnedPositions
    layers: LatentStackSettings
    form: AttentionForm

    def __call__(
        self,
        inputs: Int[Array, "B M"],
        *,
        input_mask: Bool[Array, "B M"] | None = None,
        query: Int[Array, "B O"] | None = None,
        is_training: bool,
    ) -> Float[Array, "B O V"]:
        """Logits of the tokens at the places `query`, by default at all."""
        encoded = self.encode(inputs, input_mask=input_mask, is_training=is_training)
        return self.decode(encoded, query=query, is_training=is_training)

    def encode(
        self,
        inputs: Int[Array, "B M"],
        *,
        input_mask: Bool[Array, "B M"] | None = None,
        is_training: bool,
    ) -> Encoded:
        """The tokens' vectors; tokens whose `input_mask` is False are ignored."""
        x = self.embeddings(inputs) + first(self.positions, inputs.shape[1])
        norm_first = self.layers.norm == "post"
        norm = get_layer_norm("embeddings_norm" if norm_first else "final_norm", x.shape[-1])
        if norm_first:
            x = layer_norm(norm, x)
        rng = hk.next_rng_key() if is_training and self.layers.dropout else None
        stack = LatentStack(self.layers, self.form, name="layers")
        x = stack(dropout(x, self.layers.dropout, rng), is_training, input_mask)
        return Encoded(x if norm_first else layer_norm(norm, x))

    def decode(
        self, encoded: Encoded, *, query: Int[Array, "B O"] | None = None, is_training: bool
    ) -> Float[Array, "B O V"]:
        """Logits at the places `query`, by default at all."""
        del is_training
        x = encoded.features
        if query is not None:
            x = jnp.take_along_axis(x, query[..., None], axis=1)
        output = TiedLogits(self.embeddings.table)
        (weights,) = output.layers(x.shape[-1])
        return output.arrange(linear(weights, x))
