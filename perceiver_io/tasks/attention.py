"""What a Perceiver's cross-attention looks at, for pictures of it.

Latents read the inputs in the encoder, and queries read the latents in the decoder; the product of
both maps is what the answer to a query is read from at first hand (self-attention in between mixes
latents, which no product shows). Of several heads it is the mean.
"""

import functools
import math
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Int32, PyTree

from perceiver_io.models.architectures import Architecture
from perceiver_io.models.perceiver.perceiver import Encoded
from perceiver_io.models.perceiver.positions import subsampled_coordinates
from perceiver_io.tasks.masked_lm.prediction import filled_up

# Queries of which the whole map is kept at a time, and by which latents are chosen.
_CHUNK_SIZE = 16_384
_SAMPLE_SIZE = 4096


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
        model: Architecture,
        params: PyTree,
        state: PyTree,
        inputs: PyTree[np.ndarray],
        input_mask: np.ndarray | None = None,
    ):
        """Encodes the example.

        Args:
            model: has `encoder_maps`; where it has no `decoder_map`, it averages its latents.
            params: its parameters.
            state: its state.
            inputs: what the model takes, a batch of one.
            input_mask: False for tokens that are not there.
        """
        self._model, self._arrays = model, (params, state)
        self._inputs, self._input_mask = inputs, input_mask
        self._encoded = _encode(model, params, state, inputs, input_mask)

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


def attention_to_image(
    model: Architecture,
    params: PyTree,
    state: PyTree,
    image: Float[np.ndarray, "H W C"],
    *,
    count: int,
) -> Attention:
    """What a classifier looks at: the latents that the class is read from most.

    The original Perceiver averages its latents; all count alike, and the first ones are shown.

    Args:
        model: takes `inputs` [1, H, W, C].
        params: its parameters.
        state: its state.
        image: as the model takes it.
        count: latents to show.
    """
    attended = CrossAttention(model, params, state, image[None])
    decoder = np.asarray(attended.decoder())
    return attended.both(decoder, most_used(decoder, count))


def attention_to_text(
    model: Architecture,
    params: PyTree,
    state: PyTree,
    ids: Int32[np.ndarray, " M"],
    *,
    mask_id: int,
    longest: int,
    count: int,
) -> Attention:
    """What a masked language model looks at to fill in a text's unknown tokens, all at once.

    Args:
        model: takes `inputs` [1, M] and their `input_mask`.
        params: its parameters.
        state: its state.
        ids: the text.
        mask_id: the id of an unknown token; these are the queries.
        longest: tokens that the model takes.
        count: latents to show.
    """
    inputs, input_mask = filled_up(ids[None], np.ones((1, len(ids)), bool), longest)
    attended = CrossAttention(model, params, state, inputs, input_mask)
    decoder = np.asarray(attended.decoder())[np.flatnonzero(ids == mask_id)]
    attention = attended.both(decoder, most_used(decoder, count))
    return attention._replace(
        encoder=[x[:, : len(ids)] for x in attention.encoder],
        through=[x[:, : len(ids)] for x in attention.through],
    )


def attention_to_frames(
    model: Architecture,
    params: PyTree,
    state: PyTree,
    frames: Float[np.ndarray, "2 H W 3"],
    *,
    count: int,
) -> Attention:
    """What a model of flow looks at; queries are the pixels of the first frame, or its features.

    Memory does not grow with the number of queries times that of latents: `through` is left out.

    Args:
        model: takes `inputs` [1, 2, H, W, 3], and the numbers of some queries as `query`.
        params: its parameters.
        state: its state.
        frames: as the model takes them.
        count: latents to show.
    """
    attended = CrossAttention(model, params, state, frames[None])
    num_queries = attended.num_queries()
    sample = np.linspace(0, num_queries - 1, min(num_queries, _SAMPLE_SIZE)).astype(int)
    latents = most_used(np.asarray(attended.decoder(sample)), count)
    pieces = _pieces(num_queries)
    decoder = [np.asarray(attended.decoder(piece)[:, latents]) for piece in pieces]
    return Attention(latents, np.concatenate(decoder), attended.encoder(latents), [])


def attention_to_clip(
    model: Architecture,
    params: PyTree,
    state: PyTree,
    clip: Mapping[str, np.ndarray],
    *,
    audio_patches: int,
    count: int,
) -> Attention:
    """What an autoencoder looks at for all points of each modality together.

    The rows of `decoder` are means over the queries of image, audio and label; `latents` are the
    ones that each of these in turn uses most.

    Args:
        model: takes `inputs`, and `query`, as in `autoencode.reconstruct`.
        params: its parameters.
        state: its state.
        clip: `image` [T, H, W, 3] from 0 to 1 and `audio` [S, 1] from -1 to 1.
        audio_patches: number of patches that the model divides the sound into.
        count: latents to show of each modality.
    """
    attended = CrossAttention(model, params, state, {name: x[None] for name, x in clip.items()})
    shapes = {"image": clip["image"].shape[:3], "audio": (audio_patches,)}
    usage = [_mean_over_grid(attended, name, shape) for name, shape in shapes.items()]
    decoder = np.stack([*usage, np.asarray(attended.decoder({"label": None}))[0]])
    favourites = np.concatenate([most_used(row[None], count) for row in decoder])
    return attended.both(decoder, np.array(list(dict.fromkeys(favourites.tolist()))))


def _mean_over_grid(
    attended: CrossAttention, modality: str, shape: tuple[int, ...]
) -> Float[np.ndarray, " N"]:
    """How much all points of a modality's grid attend to each latent, in the mean."""
    total = 0
    for points in _pieces(math.prod(shape)):
        coordinates = subsampled_coordinates(jnp.asarray(points)[None], shape)
        total += attended.decoder({modality: coordinates}).sum(0)
    return np.asarray(total) / math.prod(shape)


def _pieces(count: int) -> list[Int[np.ndarray, " n"]]:
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
