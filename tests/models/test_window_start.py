"""Initial attention to windows: what is read by each latent's heads, and by each query."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_io.errors import UserError
from perceiver_io.models.architectures import build
from perceiver_io.models.perceiver.positions import subsampled_coordinates
from tests.helpers import oracles

pytestmark = pytest.mark.usefixtures("for_cpu")

NUM_LATENTS = 9
ATTENDING = dict(num_heads=2, qk_dim=32, v_dim=16)
SECTION = dict(
    name="perceiver_io_autoencoder",
    image=dict(
        shape=(2, 16, 16),
        patch_size=(4, 4),
        resolution=(2, 16, 16),
        num_bands=8,
        scale=0.5,
        windows=dict(latents=(1, 2, 2), heads=(1, 1, 2)),
    ),
    audio=dict(
        num_samples=32,
        samples_per_patch=4,
        num_bands=16,
        scale=0.1,
        windows=dict(latents=(4,), heads=(1,)),
    ),
    label=dict(num_classes=5, query_dim=9),
    output_dim=8,
    encoder=dict(
        num_latents=NUM_LATENTS,
        latent_dim=64,
        cross_attend=ATTENDING,
        latent_stack=dict(num_layers=1, num_heads=2),
    ),
    decoder=dict(cross_attend=dict(ATTENDING, use_query_residual=False)),
    compute_dtype="float32",
)


def clip():
    rng = np.random.default_rng(0)
    return {
        "image": rng.uniform(size=(1, 2, 16, 16, 3)).astype(np.float32),
        "audio": 0.05 * rng.normal(size=(1, 32, 1)).astype(np.float32),
    }


@pytest.fixture(scope="module")
def maps():
    """Attention of latents to tokens and of queries to latents, with initial weights."""
    model = build(SECTION)
    points = {
        name: subsampled_coordinates(jnp.arange(np.prod(shape))[None], shape)
        for name, shape in (("image", (2, 16, 16)), ("audio", (8,)))
    }

    @jax.jit
    def attend(inputs):
        params, state = model.init(jax.random.key(0), inputs=inputs)
        latents = jnp.arange(NUM_LATENTS)
        (read,), _ = model.encoder_maps(params, state, None, inputs, latents=latents)
        encoded, _ = model.encode(params, state, None, inputs, is_training=False)
        asked, _ = model.decoder_map(params, state, None, encoded, query=points)
        return read, asked

    return jax.tree.map(np.asarray, attend(clip()))


def test_heads_of_latents_read_their_windows(maps):
    image, audio = maps[0]["image"][0], maps[0]["audio"][0]
    # Latents of sound come first: both heads of each read its quarter, two of the eight patches.
    of_sound = audio[:, :4].reshape(2, 4, 4, 2).sum(-1)
    assert of_sound[:, range(4), range(4)].min() > 0.7
    # Four latents divide the picture, and their heads each of these cells, here from left to right.
    frames = image[:, 4:8].sum(2).reshape(2, 2, 2, 2, 2, 2, 2)  # Head, its cell; then its window.
    for head, row, column in np.ndindex(2, 2, 2):
        rows = frames[head, row, column].sum(1)
        assert rows[row, column, head] > 0.5


def test_a_latent_without_windows_reads_everything(maps):
    assert maps[0]["image"][0][:, 8].max() < 0.1


def test_queries_read_the_windows_around_them(maps):
    image = maps[1]["image"][0].reshape(2, 2, 2, 8, 2, 8, NUM_LATENTS)
    for row, column in np.ndindex(2, 2):
        middle = image[:, :, row, 2:6, column, 2:6, 4 + 2 * row + column]
        assert middle.mean() > 0.5
    sound = maps[1]["audio"][0][..., :4]
    assert sound.sum(-1).min() > 0.8
    # Windows are two of the eight places wide.
    read = (sound * np.arange(4)).sum(-1) / sound.sum(-1)
    assert np.abs(read - (np.arange(8) / 2 - 0.25)).max() < 0.6


def test_scales_divide_inputs_and_multiply_outputs():
    def outputs(scale, inputs):
        section = dict(SECTION, audio=dict(SECTION["audio"], scale=scale))
        model = build(section)
        params, state = oracles.random_params_and_state(model.init, inputs=inputs)
        return jax.jit(lambda x: model.apply(params, state, None, inputs=x, is_training=False))(
            inputs
        )[0]

    given = clip()
    once = outputs(1.0, given)
    scaled = outputs(0.25, dict(given, audio=0.25 * given["audio"]))
    oracles.assert_close(scaled["audio"], 0.25 * once["audio"])
    oracles.assert_close(scaled["image"], once["image"])


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(latents=(6,)), "need 10 latents, but there are 9"),
        (dict(latents=(2, 2)), "one number for each of the 1 axes"),
        (dict(heads=(3,)), r"\(3,\) windows cannot be shared out evenly among 2 heads"),
    ],
)
def test_windows_that_do_not_suit(changes, message):
    audio = SECTION["audio"]
    section = dict(SECTION, audio=dict(audio, windows=dict(audio["windows"], **changes)))
    with pytest.raises(UserError, match=message):
        jax.eval_shape(lambda: build(section).init(jax.random.key(0), inputs=clip()))


def test_heads_that_differ():
    cross_attend = dict(ATTENDING, num_heads=1, use_query_residual=False)
    section = dict(SECTION, decoder=dict(cross_attend=cross_attend))
    with pytest.raises(UserError, match="as many heads in the decoder's .*: there are 1 and 2"):
        jax.eval_shape(lambda: build(section).init(jax.random.key(0), inputs=clip()))
