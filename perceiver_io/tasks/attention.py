"""What a Perceiver's cross-attention looks at, for pictures of it.

Latents read the inputs in the encoder, and queries read the latents in the decoder; the product of
both maps is what the answer to a query is read from at first hand (self-attention in between mixes
latents, which no product shows). Of several heads it is the mean.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree

from perceiver_io.models.architectures import Architecture
from perceiver_io.models.perceiver.perceiver import Encoded
from perceiver_io.tasks.predictor import Trained

_CHUNK_SIZE = 16_384  # queries of which the whole map is kept at a time


class Attention(NamedTuple):
    """Attention from a few latents and to them, and through all.

    latents: the numbers of the few.
    decoder: how much each query attends to each of them.
    encoder: for each cross-attend of the encoder, how much each of them attends to each place of
        the inputs' grid, [n, *grid]; a dict by modality.
    through: for each cross-attend of the encoder, how much each query attends to each place through
        all latents, [O, *grid]; a dict by modality. Empty where queries are too many.
    """

    latents: Int[np.ndarray, " n"]
    decoder: Float[np.ndarray, "O n"]
    encoder: list[PyTree[np.ndarray]]
    through: list[PyTree[np.ndarray]]


class CrossAttention:
    """The maps of one example."""

    def __init__(
        self,
        trained: Trained,
        inputs: PyTree[np.ndarray],
        input_mask: np.ndarray | None = None,
    ):
        """Encodes the example.

        Args:
            trained: its model has `encoder_maps`; where it has no `decoder_map`, it averages its
                latents.
            inputs: what the model takes, a batch of one.
            input_mask: False for tokens that are not there.
        """
        self._model, self._arrays = trained.model, (trained.params, trained.state)
        self._inputs, self._input_mask = inputs, input_mask
        self._encoded = _encode(self._model, *self._arrays, inputs, input_mask)

    @property
    def num_latents(self) -> int:
        """N."""
        return self._encoded.latents.shape[1]

    def num_queries(self) -> int:
        """O, where all are asked."""
        rows = functools.partial(_decoder_rows, self._model)
        return jax.eval_shape(rows, *self._arrays, self._encoded, None).shape[0]

    def decoder(self, query: PyTree[Array] | None = None) -> Float[Array, "O N"]:
        """How much queries attend to each latent.

        Args:
            query: which ones, as the model's `decode` takes it, of one modality; None for all.
        """
        if self._model.decoder_map is None:
            return jnp.full((1, self.num_latents), 1 / self.num_latents)
        return _decoder_rows(self._model, *self._arrays, self._encoded, query)

    def encoder(self, latents: Int[np.ndarray, " n"]) -> list[PyTree[np.ndarray]]:
        """How much latents attend to each place, [n, *grid], for each cross-attend."""
        return self._encoder(latents, np.eye(len(latents), dtype=np.float32))

    def both(self, decoder: Float[np.ndarray, "O N"], latents: Int[np.ndarray, " n"]) -> Attention:
        """The attention of `latents`, and of queries through all latents.

        Args:
            decoder: how much each query attends to each latent.
            latents: the numbers of those to show.
        """
        shown = np.eye(self.num_latents, dtype=np.float32)[latents]
        weights = np.concatenate([shown, decoder])
        maps = self._encoder(np.arange(self.num_latents), weights)
        count = len(latents)
        encoder = jax.tree.map(lambda x: x[:count], maps)
        through = jax.tree.map(lambda x: x[count:], maps)
        return Attention(latents, decoder[:, latents], encoder, through)

    def _encoder(
        self, latents: Int[np.ndarray, " n"], weights: Float[np.ndarray, "r n"]
    ) -> list[PyTree[np.ndarray]]:
        """Sums over `latents` by rows of `weights`, [r, *grid]."""
        maps = _encoder_maps(
            self._model, *self._arrays, self._inputs, self._input_mask, latents, weights
        )
        return jax.tree.map(np.asarray, maps)


def most_used(decoder: Float[np.ndarray, "O N"], count: int) -> Int[np.ndarray, " n"]:
    """The latents that serve the queries best together, the one of the largest mean first.

    Many latents are near copies of each other. So each is chosen for what it adds to the largest
    weights that the queries have among the chosen ones; where none adds anything, as for a single
    query, for its mean; of equal ones, the first.
    """
    mean, largest = decoder.mean(0), np.zeros((len(decoder), 1), decoder.dtype)
    left, chosen = list(range(decoder.shape[1])), []
    for _ in range(min(count, len(left))):
        added = np.maximum(decoder - largest, 0).sum(0)
        chosen.append(max(left, key=lambda latent: (added[latent], mean[latent])))
        left.remove(chosen[-1])
        largest = np.maximum(largest, decoder[:, chosen[-1:]])
    return np.array(sorted(chosen, key=lambda latent: -mean[latent]))


def in_pieces(count: int) -> list[Int[np.ndarray, " n"]]:
    """The numbers below `count` in pieces of about one size."""
    return np.array_split(np.arange(count), -(-count // _CHUNK_SIZE))


@functools.partial(jax.jit, static_argnums=0)
def _encode(
    model: Architecture,
    params: PyTree,
    state: PyTree,
    inputs: PyTree[Array],
    input_mask: Array | None,
) -> Encoded:
    return model.encode(
        params, state, None, inputs=inputs, input_mask=input_mask, is_training=False
    )[0]


@functools.partial(jax.jit, static_argnums=0)
def _decoder_rows(
    model: Architecture, params: PyTree, state: PyTree, encoded: Encoded, query: PyTree[Array]
) -> Float[Array, "O N"]:
    (weights,) = jax.tree.leaves(model.decoder_map(params, state, None, encoded, query=query)[0])
    return weights[0].mean(0)


@functools.partial(jax.jit, static_argnums=0)
def _encoder_maps(
    model: Architecture,
    params: PyTree,
    state: PyTree,
    inputs: PyTree[Array],
    input_mask: Array | None,
    latents: Array,
    weights: Float[Array, "r n"],
) -> list[PyTree[Array]]:
    maps, _ = model.encoder_maps(
        params, state, None, inputs=inputs, input_mask=input_mask, latents=latents
    )
    return jax.tree.map(lambda x: jnp.tensordot(weights, x[0].mean(0), axes=1), maps)
