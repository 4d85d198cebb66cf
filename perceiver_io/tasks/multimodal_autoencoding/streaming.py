"""A model that decodes any number of points in chunks."""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from perceiver_io.models.architectures import Architecture
from perceiver_io.models.perceiver.encoder import Encoded
from perceiver_io.models.perceiver.tokens import Tokens


@functools.lru_cache(maxsize=8)
def streamed(model: Architecture, chunk_size: int) -> Architecture:
    """The model, whose `apply` encodes once and decodes so many points of a modality at a time.

    Beyond the outputs, memory does not grow with the number of points.

    Args:
        model: its `query` is a dict by modality, of coordinates [B, O, A] or None.
        chunk_size: points at a time.
    """
    return dataclasses.replace(model, apply=functools.partial(_apply, model, chunk_size))


def latents_only(encoded: Encoded) -> Encoded:
    """Drops the tokens, by far the largest part, where no query needs them."""
    return encoded._replace(tokens=Tokens(encoded.latents[:, :0]))


def _apply(
    model: Architecture,
    chunk_size: int,
    params: PyTree,
    state: PyTree,
    rng: Array | None,
    *,
    inputs: PyTree[Array],
    query: dict[str, Float[Array, "#B O A"] | None],
    is_training: bool,
) -> tuple[dict[str, Array], PyTree]:
    encoded, state = model.encode(params, state, rng, inputs=inputs, is_training=is_training)
    encoded = latents_only(encoded)

    def decode(name: str, points: Array | None) -> Array:
        asked = {name: points}
        decoded, _ = model.decode(params, state, rng, encoded, query=asked, is_training=is_training)
        return decoded[name]

    outputs = {
        name: decode(name, None)
        if points is None
        else _in_chunks(functools.partial(decode, name), points, chunk_size)
        for name, points in query.items()
    }
    return outputs, state


def _in_chunks(
    decode: Callable[[Array], Array], points: Float[Array, "b O A"], size: int
) -> Float[Array, "B O E"]:
    """`decode(points)`, so many points at a time; the last chunk is padded."""
    count = points.shape[1]
    size = min(size, count)
    padded = jnp.pad(points, ((0, 0), (0, -count % size), (0, 0)), "edge")
    chunks = padded.reshape(len(points), -1, size, points.shape[-1])
    decoded = jax.lax.map(decode, jnp.moveaxis(chunks, 1, 0))
    decoded = jnp.moveaxis(decoded, 0, 1)
    return decoded.reshape(len(decoded), -1, decoded.shape[-1])[:, :count]
