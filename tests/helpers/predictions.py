"""Tiny models with random weights, and generated pictures and videos as their inputs."""

import jax
import numpy as np
from PIL import Image

from perceiver_io.models.architectures import Architecture, build
from perceiver_io.pretrained.preparation import default
from perceiver_io.tasks.predictor import Trained
from perceiver_io.tasks.video_writer import VideoWriter
from tests.helpers import oracles
from tests.helpers.sections import core

NO_MODEL = Architecture(*[abs] * 4)
CORE = dict(
    core(num_latents=6, latent_dim=16, num_layers=1),
    attention=dict(key_chunk_size=None, fold_projections=True),
    compute_dtype="float32",
)
CLASSIFIER = dict(
    CORE,
    name="perceiver_io_classifier",
    num_classes=1000,
    inputs=dict(name="fourier_pixels", image_size=(16, 16), num_bands=3),
)
LANGUAGE = dict(
    CORE, name="perceiver_io_masked_lm", vocab_size=262, max_length=64, embedding_dim=12
)
FLOW = dict(
    CORE, name="perceiver_io_flow", image_size=(16, 24), neighbourhood=3, channels=8, num_bands=3
)
AUTOENCODER = dict(
    CORE,
    name="perceiver_io_autoencoder",
    image=dict(shape=(4, 8, 12), patch_size=(4, 4), resolution=(4, 8, 12), num_bands=2),
    audio=dict(num_samples=160, samples_per_patch=8, num_bands=2),
    label=dict(num_classes=6, query_dim=8),
    output_dim=12,
)


def trained(section, **settings):
    model = build(section)
    params, state = oracles.random_params_and_state(model.init, **model.input_spec)
    return Trained(model, params, state, section, preparation=default(section), **settings)


def untrained(section, model=NO_MODEL):
    """A model for errors that are found before it is applied."""
    return Trained(model, {}, {}, section, preparation=default(section))


def applied(model, inputs):
    def apply(params, state, inputs):
        return model.model.apply(params, state, None, inputs=inputs, is_training=False)[0]

    return jax.jit(apply)(model.params, model.state, inputs)


def picture(height, width, seed=0):
    """Smooth colours, so that a resized image looks almost the same."""
    y, x = np.mgrid[:height, :width] / max(height, width)
    waves = [np.sin(3 * x + seed), np.cos(4 * y + seed), np.sin(5 * (x + y))]
    return np.rint(127.5 + 127.5 * np.stack(waves, -1)).astype(np.uint8)


def video_file(path, num_frames, height=20, width=30):
    frames = np.stack([picture(height, width, seed=0.2 * i) for i in range(num_frames)])
    tone = 0.5 * np.sin(2 * np.pi * 200 * np.arange(num_frames * 1920) / 48_000)
    with VideoWriter(path, frame_rate=25) as writer:
        writer.write(frames, tone.astype(np.float32)[:, None])
    return str(path)


def size_of(path):
    with Image.open(path) as image:
        return image.size
