"""Cross-attention maps: against NumPy, over grids, in chunks, with padding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_io.models.architectures import build
from perceiver_io.models.perceiver.positions import FourierPositions, subsampled_coordinates
from perceiver_io.tasks import attention
from perceiver_io.tasks.attention import most_used
from perceiver_io.tasks.image_classification.prediction import attention_to_image
from perceiver_io.tasks.masked_lm.prediction import attention_to_text
from perceiver_io.tasks.multimodal_autoencoding.prediction import attention_to_clip
from perceiver_io.tasks.optical_flow.prediction import attention_to_frames
from tests.helpers import oracles
from tests.helpers.predictions import AUTOENCODER, CLASSIFIER, FLOW, LANGUAGE, trained

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("for_cpu")]

TWO_HEADS = dict(num_heads=2, use_query_residual=True, qk_dim=8, v_dim=8)
ORIGINAL = dict(
    name="perceiver_classifier",
    num_classes=5,
    inputs=CLASSIFIER["inputs"],
    encoder=dict(
        num_latents=6,
        latent_dim=16,
        cross_attends=(0, 1, 1),
        stacks=(0, 1, 1),
        cross_attend=TWO_HEADS,
        latent_stack=dict(num_layers=1, num_heads=2),
    ),
)


def random(*shape, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


def head_mean(params, block, queries, inputs, num_heads):
    """Attention of `queries` [O, C] to `inputs` [M, D] in a block of a model, in NumPy."""
    p = {name: params[f"{block}/{name}"] for name in ("norm_queries", "norm_inputs")}
    q = oracles.layer_norm(queries, p["norm_queries"])
    k = oracles.layer_norm(inputs, p["norm_inputs"])
    q, k = (
        np.asarray(oracles.linear(x, params[f"{block}/attention/{name}"]))
        for x, name in ((q, "query"), (k, "key"))
    )
    q, k = (x.reshape(1, len(x), num_heads, -1) for x in (q, k))
    return oracles.attention_weights(q, k, q.shape[-1] ** -0.5)[0].mean(0)


def test_maps_of_an_image_equal_the_formula():
    section = dict(
        CLASSIFIER,
        encoder=dict(CLASSIFIER["encoder"], cross_attend=TWO_HEADS),
        decoder=dict(cross_attend=TWO_HEADS),
    )
    model, params, state, *_ = asked = trained(section)
    image = random(16, 16, 3)
    found = attention_to_image(asked, image, count=4)
    positions = FourierPositions(num_bands=3, resolution=(16, 16)).grid((16, 16))[0]
    tokens = np.concatenate([image.reshape(256, 3), positions], axis=1)
    encoder = head_mean(params, "encoder/cross_attend", params["encoder"]["latents"], tokens, 2)
    encoded, _ = model.encode(params, state, None, inputs=image[None], is_training=False)
    queries, latents = params["queries"]["embeddings"], np.asarray(encoded.latents[0])
    decoder = head_mean(params, "decoder/cross_attend", queries, latents, 2)
    order = np.argsort(-decoder[0])[:4]
    np.testing.assert_array_equal(found.latents, order)
    oracles.assert_close(found.decoder, decoder[:, order])
    oracles.assert_close(found.encoder[0], encoder[order].reshape(4, 16, 16))
    oracles.assert_close(found.through[0], (decoder @ encoder).reshape(1, 16, 16))


def test_latents_that_are_shown_differ():
    decoder = np.array([[0.42, 0.41, 0.13, 0.04], [0.38, 0.37, 0.21, 0.04], [0.1, 0.1, 0.2, 0.6]])
    np.testing.assert_array_equal(most_used(decoder, 1), [0])
    # One of the first two, which are near copies, and then the fourth, used by the third query.
    np.testing.assert_array_equal(most_used(decoder, 2), [0, 3])
    np.testing.assert_array_equal(most_used(decoder, 3), [0, 1, 3])
    np.testing.assert_array_equal(most_used(decoder, 9), [0, 1, 3, 2])
    np.testing.assert_array_equal(most_used(decoder[2:], 3), [3, 2, 0])


def test_maps_of_the_original_perceiver():
    found = attention_to_image(trained(ORIGINAL), random(16, 16, 3), count=6)
    np.testing.assert_array_equal(found.latents, np.arange(6))
    np.testing.assert_allclose(found.decoder, np.full((1, 6), 1 / 6), rtol=1e-6)
    assert len(found.encoder) == 3
    for maps, through in zip(found.encoder, found.through, strict=True):
        np.testing.assert_allclose(maps.sum((1, 2)), 1, rtol=1e-5)
        oracles.assert_close(through[0], maps.mean(0))
    assert np.abs(found.encoder[1] - found.encoder[2]).max() > 1e-5


def test_permuted_pixels_are_shown_at_their_original_positions():
    model = trained(ORIGINAL)
    permuted = dict(ORIGINAL, inputs=dict(name="permuted", seed=1, inputs=ORIGINAL["inputs"]))
    image = random(16, 16, 3)
    plain = attention_to_image(model, image, count=2)
    found = attention_to_image(model._replace(model=build(permuted)), image, count=2)
    for one, other in zip(plain.encoder, found.encoder, strict=True):
        oracles.assert_close(one, other)


@pytest.mark.parametrize(
    "inputs, grid",
    [
        (dict(name="conv_features", channels=4, num_bands=2), (4, 5)),
        (dict(name="conv_features", channels=4, num_bands=2, pytorch_padding=True), (3, 4)),
        (dict(name="linear_patches", patch_size=(3, 4), channels=4, num_bands=2), (5, 5)),
        (dict(name="learned_pixels", channels=4), (15, 20)),
    ],
)
def test_maps_have_the_grid_after_the_stem(inputs, grid):
    section = dict(CLASSIFIER, inputs=dict(inputs, image_size=(15, 20)))
    found = attention_to_image(trained(section), random(15, 20, 3), count=2)
    assert found.encoder[0].shape == (2, *grid) and found.through[0].shape == (1, *grid)


def test_padding_of_a_text_is_not_attended_to():
    ids = np.arange(10, 30, dtype=np.int32)
    ids[[3, 4, 9]] = 3
    model = trained(LANGUAGE)
    found, alone = (
        attention_to_text(model, ids, mask_id=3, longest=longest, count=4)
        for longest in (64, len(ids))
    )
    assert found.decoder.shape == (3, 4) and found.through[0].shape == (3, 20)
    np.testing.assert_allclose(found.encoder[0].sum(-1), 1, rtol=1e-5)
    np.testing.assert_allclose(found.through[0].sum(-1), 1, rtol=1e-5)
    jax.tree.map(oracles.assert_close, found, alone)


@pytest.mark.parametrize("name", ["perceiver_io_flow", "perceiver_io_flow_separate"])
def test_flow_queries_are_processed_in_chunks(name, monkeypatch):
    monkeypatch.setattr(attention, "_CHUNK_SIZE", 100)
    model, params, state, *_ = asked = trained(dict(FLOW, name=name))
    frames = random(2, 16, 24, 3)
    found = attention_to_frames(asked, frames, count=3)
    encoded, _ = model.encode(params, state, None, inputs=frames[None], is_training=False)
    whole = np.asarray(model.decoder_map(params, state, None, encoded)[0][0, 0])
    assert whole.shape == (16 * 24, 6)
    np.testing.assert_array_equal(found.latents, most_used(whole, 3))
    oracles.assert_close(found.decoder, whole[:, found.latents])
    grid = (16, 24) if name == "perceiver_io_flow" else (2, 16, 24)
    assert found.encoder[0].shape == (3, *grid) and not found.through
    np.testing.assert_allclose(found.encoder[0].reshape(3, -1).sum(1), 1, rtol=1e-5)


def test_mean_attention_of_modalities():
    model, params, state, *_ = asked = trained(AUTOENCODER)
    clip = {"image": random(4, 8, 12, 3), "audio": random(160, 1)}
    found = attention_to_clip(asked, clip, audio_patches=20, count=2)
    inputs = {name: x[None] for name, x in clip.items()}
    encoded, _ = model.encode(params, state, None, inputs=inputs, is_training=False)
    points = {"image": (4, 8, 12), "audio": (20,)}
    query = {
        name: subsampled_coordinates(jnp.arange(np.prod(shape))[None], shape)
        for name, shape in points.items()
    }
    maps, _ = model.decoder_map(params, state, None, encoded, query=query | {"label": None})
    decoder = np.stack([maps[name][0, 0].mean(0) for name in ("image", "audio", "label")])
    favourites = {int(k) for row in decoder for k in np.argsort(-row)[:2]}
    assert set(found.latents.tolist()) == favourites
    oracles.assert_close(found.decoder, decoder[:, found.latents])
    for maps in (found.encoder[0], found.through[0]):
        assert {name: x.shape[1:] for name, x in maps.items()} == {
            "image": (4, 2, 3),
            "audio": (20,),
            "label": (1,),
        }
        total = sum(x.reshape(len(x), -1).sum(1) for x in maps.values())
        np.testing.assert_allclose(total, 1, rtol=1e-5)
