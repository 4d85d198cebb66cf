"""Flow and autoencoding models: several modalities in one model, outputs in chunks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_io.errors import UserError
from perceiver_io.models.architectures import build
from perceiver_io.models.perceiver.positions import subsampled_coordinates
from tests.helpers import oracles
from tests.helpers.sections import MODALITIES, clip, core

pytestmark = pytest.mark.usefixtures("for_cpu")

CORE = dict(core(query_chunk_size=7), compute_dtype="float32")
AUTOENCODER = dict(CORE, name="perceiver_io_autoencoder", **MODALITIES)
FLOW = dict(
    CORE, name="perceiver_io_flow", image_size=(4, 6), neighbourhood=3, channels=5, num_bands=2
)
FOLDED = dict(key_chunk_size=4, fold_projections=True)
CLIP = clip()
FRAMES = np.random.default_rng(1).normal(size=(2, 2, 4, 6, 3)).astype(np.float32)


def made(section, inputs):
    model = build(dict(section, attention=FOLDED))
    params, state = oracles.random_params_and_state(model.init, inputs=inputs)

    def apply(inputs, **keywords):
        return model.apply(params, state, None, inputs=inputs, is_training=False, **keywords)[0]

    return params, apply


@pytest.mark.slow
def test_outputs_of_all_modalities():
    _, apply = made(AUTOENCODER, CLIP)
    outputs = apply(CLIP)
    shapes = {name: output.shape for name, output in outputs.items()}
    assert shapes == {"audio": (2, 4, 3), "image": (2, 48, 3), "label": (2, 5)}


@pytest.mark.slow
def test_order_of_a_dict_does_not_matter():
    _, apply = made(AUTOENCODER, CLIP)
    oracles.assert_close(apply(dict(reversed(CLIP.items()))), apply(CLIP))


@pytest.mark.slow
def test_missing_modalities_become_mask_tokens():
    params, apply = made(AUTOENCODER, CLIP)
    silent = {"image": CLIP["image"]}
    outputs = apply(silent)
    assert all(np.isfinite(output).all() for output in outputs.values())
    params["audio_mask_token"]["embeddings"] *= -1.0
    assert np.abs(apply(silent)["label"] - outputs["label"]).max() > 1e-4
    # If everything but the label is given, that token is not used.
    given = apply(CLIP)
    params["audio_mask_token"]["embeddings"] *= -1.0
    oracles.assert_close(apply(CLIP), given)


@pytest.mark.slow
def test_label_can_be_given():
    _, apply = made(AUTOENCODER, CLIP)
    label = jnp.eye(5)[jnp.array([[1], [2]])]
    assert np.abs(apply(CLIP | {"label": label})["image"] - apply(CLIP)["image"]).max() > 1e-4


@pytest.mark.slow
def test_chosen_points():
    _, apply = made(AUTOENCODER, CLIP)
    indices = jnp.arange(48)[None]
    points = subsampled_coordinates(indices, (2, 4, 6))
    everything = apply(CLIP, query={"image": points})["image"]
    assert everything.shape == (2, 48, 3)
    some = apply(CLIP, query={"image": points[:, 10:15]})
    assert list(some) == ["image"]
    oracles.assert_close(some["image"], everything[:, 10:15])


@pytest.mark.parametrize("inputs", [{}, {"image": CLIP["image"], "smell": CLIP["audio"]}])
def test_unknown_modalities(inputs):
    _, apply = made(AUTOENCODER, CLIP)
    with pytest.raises(UserError, match=r"takes one or more of \['audio', 'image', 'label'\]"):
        apply(inputs)


@pytest.mark.slow
def test_flow_starts_from_zero_and_has_the_images_shape():
    model = build(dict(FLOW, attention=FOLDED))
    params, state = model.init(jax.random.key(0), inputs=FRAMES)
    flow, _ = model.apply(params, state, None, inputs=FRAMES, is_training=False)
    np.testing.assert_array_equal(flow, np.zeros((2, 4, 6, 2)))


def test_flow_depends_on_the_order_of_frames():
    _, apply = made(FLOW, FRAMES)
    assert np.abs(apply(FRAMES) - apply(FRAMES[:, ::-1])).max() > 1e-4


@pytest.mark.slow
def test_query_points_are_exact_in_half_precision():
    """Rounded coordinates would be other points, since Fourier features magnify the error."""
    image = dict(AUTOENCODER["image"], resolution=(64, 64, 64), num_bands=8)
    model = build(AUTOENCODER | dict(image=image, compute_dtype="bfloat16"))
    params, state = oracles.random_params_and_state(model.init, inputs=CLIP)
    axes = [np.linspace(-1, 1, size, dtype=np.float32) for size in image["shape"]]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(1, -1, 3).repeat(2, 0)
    dense, asked = (
        model.apply(params, state, None, inputs=CLIP, query={"image": x}, is_training=False)[0]
        for x in (None, points)
    )
    oracles.assert_close(asked["image"], dense["image"], 0.01)
