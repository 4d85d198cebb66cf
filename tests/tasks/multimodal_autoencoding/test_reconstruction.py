"""A clip encoded once and decoded in chunks, by a small model of the project's modules."""

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_io.errors import UserError
from perceiver_io.models.architectures import Architecture
from perceiver_io.models.perceiver.decoder import Decoder
from perceiver_io.models.perceiver.encoder import SingleReadEncoder
from perceiver_io.models.perceiver.outputs import ClassLogits, PositionProjection
from perceiver_io.models.perceiver.perceiver import PerceiverIO
from perceiver_io.models.perceiver.positions import FourierPositions
from perceiver_io.models.perceiver.queries import LearnedQueries, ModalityQueries, PositionQueries
from perceiver_io.models.perceiver.tokens import Tokens
from perceiver_io.models.settings import (
    CrossAttendSettings,
    DecoderSettings,
    EncoderSettings,
    LatentStackSettings,
)
from perceiver_io.tasks.multimodal_autoencoding.reconstruction import reconstruct
from perceiver_io.tasks.predictor import Trained
from tests.helpers import oracles

pytestmark = pytest.mark.usefixtures("for_cpu")

SHAPE, PATCHES, SAMPLES, CLASSES = (2, 3, 5), 7, 4, 6
rng = np.random.default_rng(0)
CLIP = {
    "image": rng.uniform(0, 1, (*SHAPE, 3)).astype(np.float32),
    "audio": rng.uniform(-1, 1, (PATCHES * SAMPLES, 1)).astype(np.float32),
}


def adapter(inputs, mask, is_training):
    """Pixels and audio patches, projected to a common width by a layer each."""
    image, audio = inputs["image"], inputs["audio"]
    batch = len(image)
    parts = [
        hk.Linear(8, name="image")(image.reshape(batch, -1, 3)),
        hk.Linear(8, name="audio")(audio.reshape(batch, -1, SAMPLES)),
    ]
    return Tokens(jnp.concatenate(parts, axis=1), mask=mask)


def transformed():
    block = CrossAttendSettings(num_heads=1, use_query_residual=False)
    stack = LatentStackSettings(num_layers=1, num_heads=2)
    parts = {
        "image": PositionQueries(FourierPositions(2, SHAPE), SHAPE),
        "audio": PositionQueries(FourierPositions(3, (PATCHES,)), (PATCHES,)),
        "label": LearnedQueries(1, 4),
    }
    model = PerceiverIO(
        inputs=adapter,
        encoder=SingleReadEncoder(EncoderSettings(4, 8, stack, cross_attend=block)),
        queries=ModalityQueries(parts, 2),
        decoder=Decoder(DecoderSettings(block)),
        outputs={
            "image": PositionProjection(3, name="image_output"),
            "audio": PositionProjection(SAMPLES, name="audio_output"),
            "label": ClassLogits(CLASSES),
        },
    )
    return model, (model, model.encode, model.decode)


INIT, FUNCTIONS = hk.multi_transform_with_state(transformed)
PARAMS, STATE = oracles.random_params_and_state(
    lambda key, **inputs: INIT(key, **inputs, is_training=True),
    inputs=jax.tree.map(lambda x: x[None], CLIP),
)


def counted():
    """The model, and lists that record each run of `encode` and each trace of `decode`."""
    runs, traces = [], []
    apply, encode, decode = FUNCTIONS

    def counting_encode(*arguments, **keywords):
        jax.debug.callback(lambda: runs.append("encode"))
        return encode(*arguments, **keywords)

    def counting_decode(params, state, rng, encoded, *, query, **keywords):
        traces.append(tuple(query))
        assert not encoded.tokens.features.size  # only latents are kept
        return decode(params, state, rng, encoded, query=query, **keywords)

    model = Architecture(apply, apply, counting_encode, counting_decode)
    return Trained(model, PARAMS, STATE, {}), runs, traces


@pytest.fixture(scope="module")
def at_once():
    """The whole clip decoded at once, with explicit coordinates -1 + 2 i / N."""
    axes = np.meshgrid(*[-1 + 2 * np.arange(size) / size for size in SHAPE], indexing="ij")
    points = np.stack(axes, -1).reshape(1, -1, 3).astype(np.float32)
    patches = (-1 + 2 * np.arange(PATCHES) / PATCHES).reshape(1, -1, 1).astype(np.float32)
    query = {"image": points, "audio": patches, "label": None}
    inputs = jax.tree.map(lambda x: x[None], CLIP)

    @jax.jit
    def apply(inputs, query):
        return FUNCTIONS[0](PARAMS, STATE, None, inputs=inputs, query=query, is_training=False)

    return apply(inputs, query)[0]


@pytest.mark.slow
@pytest.mark.parametrize("chunk_size,pieces", [(4, 8 + 2), (7, 5 + 1), (30, 2), (10**6, 2)])
def test_chunks_equal_the_whole(at_once, chunk_size, pieces):
    model, runs, traces = counted()
    done = []
    result = reconstruct(
        model,
        CLIP,
        audio_patches=PATCHES,
        chunk_size=chunk_size,
        advance=done.append,
    )
    jax.effects_barrier()
    assert runs == ["encode"]
    assert sorted(traces) == [("audio",), ("image",), ("label",)]
    assert len(done) == pieces and sum(done) == np.prod(SHAPE) + PATCHES
    assert result.image.shape == (*SHAPE, 3) and result.audio.shape == (PATCHES * SAMPLES, 1)
    oracles.assert_close(result.image, np.reshape(at_once["image"], (*SHAPE, 3)))
    oracles.assert_close(result.audio, np.reshape(at_once["audio"], (-1, 1)))
    oracles.assert_close(result.label, jax.nn.softmax(at_once["label"][0]))


def test_a_second_clip_compiles_nothing():
    model, runs, traces = counted()
    for factor in (1, 0.5):
        clip = {name: x * np.float32(factor) for name, x in CLIP.items()}
        reconstruct(model, clip, audio_patches=PATCHES, chunk_size=8)
    jax.effects_barrier()
    assert len(runs) == 2 and len(traces) == 3


def test_a_reconstruction_that_is_not_finite_is_an_error():
    model, _, _ = counted()
    broken = model._replace(params=jax.tree.map(lambda x: x + np.nan, PARAMS))
    with pytest.raises(UserError, match="results of the model are not finite"):
        reconstruct(broken, CLIP, audio_patches=PATCHES, chunk_size=10**6)


@pytest.mark.parametrize(
    "settings,message",
    [
        (
            dict(audio_patches=5, chunk_size=4),
            "28 samples, but the model's 5 patches of 4 samples need 20",
        ),
        (dict(audio_patches=0, chunk_size=4), "audio_patches=0"),
        (dict(audio_patches=PATCHES, chunk_size=0), "chunk_size=0"),
    ],
)
def test_errors(settings, message):
    model, *_ = counted()
    with pytest.raises(UserError, match=message):
        reconstruct(model, CLIP, **settings)
