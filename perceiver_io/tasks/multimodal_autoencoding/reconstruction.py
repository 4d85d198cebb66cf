"""Reconstructs a clip of video and sound: encoded once, decoded in chunks."""

import functools
import math
from collections.abc import Mapping
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, PyTree

from perceiver_io.errors import UserError
from perceiver_io.models.architectures import Architecture
from perceiver_io.models.perceiver.perceiver import Encoded
from perceiver_io.models.perceiver.positions import subsampled_coordinates
from perceiver_io.tasks.batches import Advance, check_finite, check_positive, ignore, in_batches
from perceiver_io.tasks.multimodal_autoencoding.streaming import latents_only
from perceiver_io.tasks.predictor import Trained


class Reconstruction(NamedTuple):
    """A model's reconstruction of a clip.

    Attributes:
        image: the frames, approximately in [0, 1]; the model's outputs are not bounded.
        audio: the samples, approximately in [-1, 1].
        label: the probability of each class.
    """

    image: Float[np.ndarray, "T H W 3"]
    audio: Float[np.ndarray, "S 1"]
    label: Float[np.ndarray, " K"]


def reconstruct(
    trained: Trained,
    clip: Mapping[str, np.ndarray],
    *,
    audio_patches: int,
    chunk_size: int,
    advance: Advance = ignore,
) -> Reconstruction:
    """Reconstructs a clip; beyond the result, memory does not grow with its size.

    Args:
        trained: its model's `encode` takes `inputs`, a dict of `image` [1, T, H, W, 3] and `audio`
            [1, S, 1]; `decode` takes `query`, coordinates of `image` points [1, n, 3] or of `audio`
            patches [1, n, 1], or None for `label`, and gives [1, n, 3], [1, n, samples of a patch]
            and logits [1, K].
        clip: `image` [T, H, W, 3] from 0 to 1 and, if there is sound, `audio` [S, 1] from -1 to 1.
        audio_patches: number of patches into which the model divides the sound.
        chunk_size: number of points or patches that are decoded at a time.
        advance: called after each chunk with the number of its points or patches, in total T * H *
            W + `audio_patches`.

    Raises UserError for sound whose length does not match the patches, and for results that are
    not finite.
    """
    check_positive(audio_patches=audio_patches, chunk_size=chunk_size)
    model, params, state = trained[:3]
    encoded = _encode(model, params, state, {name: x[None] for name, x in clip.items()})
    decode = functools.partial(_decode_all, model, params, state, encoded, chunk_size, advance)
    label = _decode_label(model, params, state, encoded)
    audio = decode("audio", (audio_patches,))
    if "audio" in clip and audio.size != len(clip["audio"]):
        raise UserError(
            f"The sound has {len(clip['audio'])} samples, but the model's {audio_patches} patches "
            f"of {audio.shape[-1]} samples need {audio.size}: set audio_patches to the number for "
            "which the model was built, and cut the sound to that length."
        )
    image = decode("image", clip["image"].shape[:3])
    result = Reconstruction(
        image.reshape(clip["image"].shape), audio.reshape(-1, 1), np.asarray(label)
    )
    check_finite(result)
    return result


def _decode_all(
    model: Architecture,
    params: PyTree,
    state: PyTree,
    encoded: Encoded,
    chunk_size: int,
    advance: Advance,
    modality: str,
    shape: tuple[int, ...],
) -> Float[np.ndarray, "n C"]:
    """Decodes all points of a grid, in array order."""
    points = np.arange(math.prod(shape), dtype=np.int32)

    def decode(chunk):
        return _decode_points(model, modality, shape, params, state, encoded, chunk)

    return in_batches(decode, points, min(chunk_size, len(points)), advance)


@functools.partial(jax.jit, static_argnums=0)
def _encode(
    model: Architecture, params: PyTree, state: PyTree, inputs: dict[str, Array]
) -> Encoded:
    encoded, _ = model.encode(params, state, None, inputs=inputs, is_training=False)
    return latents_only(encoded)


# Compiled, so that the queries of the other modalities are not computed.
@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _decode_points(
    model: Architecture,
    modality: str,
    shape: tuple[int, ...],
    params: PyTree,
    state: PyTree,
    encoded: Encoded,
    points: Array,
) -> Float[Array, "n C"]:
    query = {modality: subsampled_coordinates(points[None], shape)}
    decoded, _ = model.decode(params, state, None, encoded, query=query, is_training=False)
    return decoded[modality][0]


@functools.partial(jax.jit, static_argnums=0)
def _decode_label(
    model: Architecture, params: PyTree, state: PyTree, encoded: Encoded
) -> Float[Array, " K"]:
    query = {"label": None}
    decoded, _ = model.decode(params, state, None, encoded, query=query, is_training=False)
    return jax.nn.softmax(decoded["label"][0])
