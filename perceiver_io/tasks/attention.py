"""Cross-attention maps of a Perceiver, for figures.

Latents attend to the inputs in the encoder, and queries attend to the latents in the decoder; the
product of the two maps shows from which inputs an output is directly read (it ignores the
self-attention in between, which mixes latents). Maps are averaged over heads.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree

from perceiver_io.errors import UserError
from perceiver_io.models.architectures import Architecture
from perceiver_io.models.perceiver.perceiver import Encoded
from perceiver_io.tasks.predictor import Trained

_CHUNK_SIZE = 16_384  # queries whose complete maps are in memory at a time


class Attention(NamedTuple):
    """Attention to and from selected latents, and through all latents.

    Attributes:
        latents: indices of the selected latents.
        decoder: attention of each query to each of them.
        encoder: for each cross-attend of the encoder, attention of each of them to each position of
            the input grid, [n, *grid]; a dict by modality.
        through: for each cross-attend of the encoder, attention of each query to each position
            through all latents, [O, *grid]; a dict by modality. Empty if there are too many
            queries.
    """

    latents: Int[np.ndarray, " n"]
    decoder: Float[np.ndarray, "O n"]
    encoder: list[PyTree[np.ndarray]]
    through: list[PyTree[np.ndarray]]


class CrossAttention:
    """The attention maps of one example."""

    def __init__(
        self,
        trained: Trained,
        inputs: PyTree[np.ndarray],
        input_mask: np.ndarray | None = None,
    ):
        """Encodes the example.

        Args:
            trained: its model has `encoder_maps`; if it has no `decoder_map`, its latents are
                averaged.
            inputs: the model's inputs, a batch of one.
            input_mask: False for padding.
        """
        self._model, self._arrays = trained.model, (trained.params, trained.state)
        self._inputs, self._input_mask = inputs, input_mask
        self._encoded = _encode(self._model, *self._arrays, inputs, input_mask)

    @property
    def num_latents(self) -> int:
        """N."""
        return self._encoded.latents.shape[1]

    def num_queries(self) -> int:
        """O, the number of all queries."""
        rows = functools.partial(_decoder_rows, self._model)
        return jax.eval_shape(rows, *self._arrays, self._encoded, None).shape[0]

    def decoder(self, query: PyTree[Array] | None = None) -> Float[Array, "O N"]:
        """Attention of queries to each latent.

        Args:
            query: which queries, as the model's `decode` takes them, of one modality; None for all.
        """
        if self._model.decoder_map is None:
            return jnp.full((1, self.num_latents), 1 / self.num_latents)
        return _decoder_rows(self._model, *self._arrays, self._encoded, query)

    def encoder(self, latents: Int[np.ndarray, " n"]) -> list[PyTree[np.ndarray]]:
        """Attention of latents to each position, [n, *grid], for each cross-attend."""
        return self._encoder(latents, np.eye(len(latents), dtype=np.float32))

    def both(self, decoder: Float[np.ndarray, "O N"], latents: Int[np.ndarray, " n"]) -> Attention:
        """The attention of `latents`, and of queries through all latents.

        Args:
            decoder: attention of each query to each latent.
            latents: indices of those to show.
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
        """Encoder maps of `latents`, summed with each row of `weights`, [r, *grid]."""
        maps = _encoder_maps(
            self._model, *self._arrays, self._inputs, self._input_mask, latents, weights
        )
        return jax.tree.map(np.asarray, maps)


def check_attends(trained: Trained) -> None:
    """Raises UserError for a model without such attention."""
    if trained.model.encoder_maps is None:
        raise UserError(
            f"--attention: the model {trained.section['name']} has no cross-attention to "
            "show. Leave the flag out, or use a Perceiver."
        )


def most_used(decoder: Float[np.ndarray, "O N"], count: int) -> Int[np.ndarray, " n"]:
    """The latents that together serve the queries best, sorted by mean attention.

    Since many latents are near copies of each other, they are chosen greedily, each by how much it
    increases the largest weight of each query among the chosen latents. If none increases it, as
    with a single query, the largest mean decides; ties go to the first.
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
    """The numbers below `count`, split into chunks of about equal size."""
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
