"""Flow and autoencoding models: several modalities in one model, outputs in chunks."""

import functools

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_io.errors import UserError
from perceiver_io.models.architectures import build
from perceiver_io.models.builders.autoencoder import Part, autoencoder
from perceiver_io.models.perceiver.inputs import ReadyTokens
from perceiver_io.models.perceiver.modalities import Modality, ModalityTokens
from perceiver_io.models.perceiver.outputs import PositionProjection
from perceiver_io.models.perceiver.positions import FourierPositions, subsampled_coordinates
from perceiver_io.models.perceiver.queries import PositionQueries
from perceiver_io.models.settings import (
    AttentionForm,
    CrossAttendSettings,
    DecoderSettings,
    EncoderSettings,
    LatentStackSettings,
)
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


def made(section, inputs, arranged=lambda inputs: inputs):
    model = build(dict(section, attention=FOLDED))
    params, state = oracles.random_params_and_state(model.init, inputs=inputs)

    @jax.jit
    def apply(params, inputs, **keywords):
        inputs = arranged(inputs)
        return model.apply(params, state, None, inputs=inputs, is_training=False, **keywords)[0]

    return params, functools.partial(apply, params)


@pytest.mark.slow
def test_outputs_of_all_modalities():
    _, apply = made(AUTOENCODER, CLIP)
    outputs = apply(CLIP)
    shapes = {name: output.shape for name, output in outputs.items()}
    assert shapes == {"audio": (2, 4, 3), "image": (2, 48, 3), "label": (2, 5)}


@pytest.mark.slow
def test_order_of_a_dict_does_not_matter():
    _, apply = made(AUTOENCODER, CLIP)
    # The arguments of compiled functions are sorted.
    _, apply_reversed = made(AUTOENCODER, CLIP, lambda inputs: dict(reversed(inputs.items())))
    oracles.assert_close(apply_reversed(CLIP), apply(CLIP))


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


def made_up(name, count, width):
    """A modality of `count` vectors, decoded as as many numbers."""
    positions = FourierPositions(2, (count,))
    spec = jax.ShapeDtypeStruct((1, count, width), jnp.float32)
    return Part(
        Modality(ReadyTokens(), count, width, spec),
        PositionQueries(positions, (count,)),
        PositionProjection(1, name=f"{name}_values"),
    )


PARTS = {name: made_up(name, *size) for name, size in dict(smell=(3, 4), touch=(5, 2)).items()}
SENSES = {name: oracles.normal(2, *part.tokens.spec.shape[1:]) for name, part in PARTS.items()}


def test_presence_of_made_up_modalities_per_example():
    def tokens(inputs):
        adapter = ModalityTokens({name: part.tokens for name, part in PARTS.items()}, 2)
        return adapter(inputs, None, False).features

    function = hk.without_apply_rng(hk.transform(tokens))
    params = oracles.random_params_and_state(
        lambda key, **inputs: (function.init(key, **inputs), {}), inputs=SENSES
    )[0]
    everything = function.apply(params, SENSES)
    # The narrower one is padded with 4 learned channels, both with 2 more.
    assert everything.shape == (2, 3 + 5, 4 + 2)
    np.testing.assert_array_equal(everything[:, :3, :4], SENSES["smell"])
    touch = everything[:, 3:]
    np.testing.assert_array_equal(touch[..., :2], SENSES["touch"])
    padding = np.broadcast_to(params["touch_padding"]["embeddings"], (2, 5, 4))
    np.testing.assert_array_equal(touch[..., 2:], padding)
    hidden = np.broadcast_to(params["touch_mask_token"]["embeddings"], (2, 5, 6))
    for present in ([True, False], [True, True], [False, False]):
        found = function.apply(params, SENSES | {"present": {"touch": jnp.array(present)}})
        np.testing.assert_array_equal(found[:, :3], everything[:, :3])
        expected = np.where(np.array(present)[:, None, None], touch, hidden)
        np.testing.assert_array_equal(found[:, 3:], expected)
    # Missing for all examples is the same as not given.
    np.testing.assert_array_equal(found, function.apply(params, {"smell": SENSES["smell"]}))
    with pytest.raises(UserError, match=r"takes one or more of \['smell', 'touch'\]"):
        function.apply(params, SENSES | {"present": {"taste": jnp.ones(2, bool)}})


def test_an_autoencoder_of_made_up_modalities():
    cross, stack = CrossAttendSettings(), LatentStackSettings(num_layers=1, num_heads=2)
    settings = EncoderSettings(4, 8, stack), DecoderSettings(cross), AttentionForm()

    def forward(inputs, query=None):
        return autoencoder(PARTS, 6, settings).model(inputs, query=query, is_training=False)

    function = hk.without_apply_rng(hk.transform(forward))
    init, apply = map(jax.jit, function)
    params = init(jax.random.key(0), SENSES)
    outputs = apply(params, SENSES)
    assert {name: x.shape for name, x in outputs.items()} == {
        "smell": (2, 3, 1),
        "touch": (2, 5, 1),
    }
    (asked,) = apply(params, SENSES, {"touch": None}).items()
    oracles.assert_close(asked[1], outputs["touch"])
    with pytest.raises(UserError, match=r"asks for \['taste'\]"):
        function.apply(params, SENSES, {"taste": None})

    def operations(query):
        return str(jax.make_jaxpr(function.apply)(params, SENSES, query)).count(" = ")

    both, one = (operations(dict.fromkeys(names)) for names in (PARTS, ["touch"]))
    assert one < both, "outputs that are not asked for are not computed"


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

    @jax.jit
    def start(key):
        params, state = model.init(key, inputs=FRAMES)
        return model.apply(params, state, None, inputs=FRAMES, is_training=False)[0]

    flow = start(jax.random.key(0))
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
    apply = jax.jit(functools.partial(model.apply, is_training=False))
    dense, asked = (
        apply(params, state, None, inputs=CLIP, query={"image": x})[0] for x in (None, points)
    )
    oracles.assert_close(asked["image"], dense["image"], 0.01)
