"""The two sides of `scripts.benchmark_video`.

python -m scripts._video_sides notebook|here FOLDER CHUNK_SIZE
"""

import itertools
import math
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from perceiver_io.models.architectures import Architecture, build, in_textbook_form
from perceiver_io.models.perceiver.positions import subsampled_coordinates
from perceiver_io.tasks.multimodal_autoencoding.reconstruction import reconstruct
from perceiver_io.tasks.predictor import Trained
from perceiver_io.training.flops import count_flops
from scripts.side_process import serve

Clip = dict[str, np.ndarray]

PIECES = 128
VIDEO_SHAPE = (16, 224, 224)
AUDIO_PATCHES = 1920
SAMPLES_PER_PATCH = 16

# The published video autoencoder.
SECTION = dict(
    name="perceiver_io_autoencoder",
    image=dict(shape=VIDEO_SHAPE, patch_size=(4, 4), resolution=(16, 56, 56), num_bands=32),
    audio=dict(
        num_samples=AUDIO_PATCHES * SAMPLES_PER_PATCH,
        samples_per_patch=SAMPLES_PER_PATCH,
        num_bands=192,
    ),
    label=dict(num_classes=700, query_dim=1024),
    output_dim=512,
    encoder=dict(
        num_latents=784,
        latent_dim=512,
        num_blocks=1,
        cross_attend=dict(num_heads=1, use_query_residual=True),
        latent_stack=dict(num_layers=8, num_heads=8),
    ),
    decoder=dict(cross_attend=dict(num_heads=1, use_query_residual=False)),
)


def main(side: str, folder: Path, chunk_size: int) -> None:
    """Runs one side on request."""
    model = build(SECTION if side == "here" else in_textbook_form(SECTION))
    clip = random_clip()
    inputs = {name: x[None] for name, x in clip.items()}
    params, state = jax.jit(model.init)(jax.random.key(0), inputs=inputs)
    jax.block_until_ready(params)
    if side == "here":
        serve_here(model, params, state, clip, folder, chunk_size)
    else:
        serve_notebook(model, params, state, clip, folder)


def serve_here(
    model: Architecture, params: Any, state: Any, clip: Clip, folder: Path, chunk_size: int
) -> None:
    """Decodes the whole video from latents that are computed once."""

    def run() -> None:
        trained = Trained(model, params, state, SECTION)
        result = reconstruct(trained, clip, audio_patches=AUDIO_PATCHES, chunk_size=chunk_size)
        np.save(folder / "here.npy", result.image.reshape(-1, 3))

    def encode(clip):
        inputs = {name: x[None] for name, x in clip.items()}
        return model.encode(params, state, None, inputs=inputs, is_training=False)[0]

    def decode(encoded):
        query = {"image": jnp.zeros((1, chunk_size, 3))}
        return model.decode(params, state, None, encoded, query=query, is_training=False)[0]

    run()  # compiles
    pixels = math.prod(VIDEO_SHAPE)
    decode_flops = count_flops(decode, jax.eval_shape(encode, clip)) * pixels / chunk_size
    serve({"run": run}, flops=count_flops(encode, clip) + decode_flops)


def serve_notebook(model: Architecture, params: Any, state: Any, clip: Clip, folder: Path) -> None:
    """Decodes the next chunk of the video on each request, encoding the video each time."""
    inputs = {name: x[None] for name, x in clip.items()}

    def apply(params, state, inputs, query):
        return model.apply(params, state, None, inputs=inputs, query=query, is_training=False)[0]

    compiled = jax.jit(apply).lower(params, state, inputs, query_of(0)).compile()
    pieces = itertools.cycle(range(PIECES))

    def run() -> None:
        piece = next(pieces)
        decoded = jax.tree.map(np.asarray, compiled(params, state, inputs, query_of(piece)))
        np.save(folder / f"{piece}.npy", decoded["image"][0])

    serve({"run": run}, flops=PIECES * count_flops(apply, params, state, inputs, query_of(0)))


def query_of(piece: int) -> dict[str, Any]:
    """The query for one of the chunks, and the label."""

    def part(shape):
        size = math.prod(shape) // PIECES
        indices = piece * size + np.arange(size, dtype=np.int32)
        return subsampled_coordinates(indices[None], shape)

    return {"image": part(VIDEO_SHAPE), "audio": part((AUDIO_PATCHES,)), "label": None}


def random_clip() -> Clip:
    """16 frames and their sound, all noise."""
    rng = np.random.default_rng(0)
    return {
        "image": rng.uniform(0, 1, (*VIDEO_SHAPE, 3)).astype(np.float32),
        "audio": rng.uniform(-1, 1, (AUDIO_PATCHES * SAMPLES_PER_PATCH, 1)).astype(np.float32),
    }


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
