"""Models built from config sections: sizes, forms of attention, maps, errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_io import axes
from perceiver_io.errors import UserError
from perceiver_io.models.architectures import (
    ARCHITECTURES,
    build,
    in_textbook_form,
    missing_settings,
)
from perceiver_io.training.parallel import Mesh
from tests.helpers import oracles
from tests.helpers.architectures import config_of, images, initialised, small
from tests.helpers.strategies import mesh_of_one_device, shardings

pytestmark = pytest.mark.usefixtures("for_cpu")


def evaluate(model, params, state, inputs, **settings):
    apply = jax.jit(lambda p, s, x: model.apply(p, s, None, inputs=x, is_training=False))
    return apply(params, state, inputs)[0]


every_architecture = pytest.mark.parametrize("name", ARCHITECTURES)


@pytest.mark.slow
@every_architecture
def test_a_sharded_fast_form_is_the_textbook_form_on_one_device(name, monkeypatch):
    """On several devices, with shards of all parameters, the batch and, in Perceivers, examples.

    The fast form has chunks of inputs, few as these are.
    """
    section, inputs = small(name)
    has_attention = in_textbook_form(section) != section
    chunked = dict(section, attention=dict(key_chunk_size=6)) if has_attention else section
    monkeypatch.setattr(axes, "_MIN_SHARDED_SIZE", 1)

    def outcome(section, mesh_for):
        model, params, state = initialised(section, inputs)

        def step(params, state, inputs):
            def apply(params):
                return model.apply(params, state, None, inputs=inputs, is_training=True)[0]

            outputs, gradients = oracles.values_and_gradients(apply, params)
            return gradients, {}, outputs

        mesh = mesh_for(model)
        placed = jax.device_put((params, state), shardings(mesh.template((params, state))))
        gradients, _, outputs = mesh.compile_evaluation(step)(*placed, mesh.place(inputs))
        return outputs, gradients

    def all_devices(model):
        if model.encoder_maps is None:
            return Mesh(jax.devices()[:2], fsdp=2)
        return Mesh(jax.devices()[:4], fsdp=2, sequence=2)

    expected = outcome(in_textbook_form(section), lambda model: mesh_of_one_device())
    oracles.assert_close(outcome(chunked, all_devices), expected, 1e-4)


def softmax_by_hand(params, name, queries, inputs, num_heads):
    """The map [B, H, O, M] of a cross-attend, in NumPy."""
    exact = oracles.as_float64(params)

    def heads(x, norm, layer):
        x = oracles.layer_norm(x, exact[f"{name}/{norm}"])
        return oracles.linear(x, exact[f"{name}/attention/{layer}"]).reshape(
            *x.shape[:2], num_heads, -1
        )

    q, k = heads(queries, "norm_queries", "query"), heads(inputs, "norm_inputs", "key")
    return oracles.attention_weights(q, k, q.shape[-1] ** -0.5)


def encode(model, params, state, inputs):
    return jax.jit(lambda *x: model.encode(*x, is_training=False))(params, state, None, inputs)


@pytest.mark.slow
def test_maps_of_perceiver_io():
    model, params, state = initialised(config_of("conv"), images())
    chosen = jnp.array([4, 1])
    (shown,), _ = jax.jit(model.encoder_maps)(params, state, None, images(), latents=chosen)
    encoded, _ = encode(model, params, state, images())
    latents = params["encoder"]["latents"][None, chosen]
    tokens = encoded.tokens.joined()
    expected = softmax_by_hand(params, "encoder/cross_attend", latents, tokens, 1)
    # On the grid of the image after the stem.
    assert shown.shape == (2, 1, 2, 4, 4)
    oracles.assert_close(shown.reshape(expected.shape), expected)
    np.testing.assert_allclose(shown.sum((-1, -2)), 1, rtol=1e-5)

    shown, _ = jax.jit(model.decoder_map)(params, state, None, encoded)
    queries = params["queries"]["embeddings"][None]
    expected = softmax_by_hand(params, "decoder/cross_attend", queries, encoded.latents, 1)
    oracles.assert_close(shown, expected)
    np.testing.assert_allclose(shown.sum(-1), 1, rtol=1e-5)


@pytest.mark.slow
def test_maps_of_every_cross_attend_of_the_original():
    config = config_of("perceiver_4_cross_attends")
    model, params, state = initialised(config, images())
    chosen = jnp.array([4, 1])
    maps, _ = jax.jit(model.encoder_maps)(params, state, None, images(), latents=chosen)
    reads = [number for number in config.encoder.cross_attends if number is not None]
    assert len(maps) == len(reads) == 2
    for shown in maps:
        assert shown.shape == (2, 1, 2, 16, 16)
        np.testing.assert_allclose(shown.sum((-1, -2)), 1, rtol=1e-5)
    assert np.abs(maps[0] - maps[1]).max() > 1e-3
    assert model.decoder_map is None


@pytest.mark.slow
def test_maps_by_modality():
    section, inputs = small("perceiver_io_autoencoder")
    model, params, state = initialised(section, inputs)
    chosen = jnp.array([1])
    (places,), _ = jax.jit(model.encoder_maps)(params, state, None, inputs, latents=chosen)
    total = sum(x.reshape(2, -1).sum(-1) for x in places.values())
    np.testing.assert_allclose(total, 1, rtol=1e-5)
    encoded, _ = encode(model, params, state, inputs)
    asked = {"audio": None, "label": None}
    maps, _ = jax.jit(model.decoder_map)(params, state, None, encoded, query=asked)
    assert {name: x.shape for name, x in maps.items()} == {
        "audio": (2, 1, 4, 3),
        "label": (2, 1, 1, 3),
    }
    for shown in maps.values():
        np.testing.assert_allclose(shown.sum(-1), 1, rtol=1e-5)


def test_a_convnet_has_no_maps():
    model = build(small("convnet_classifier")[0])
    assert model.encoder_maps is None and model.decoder_map is None


def test_omitted_settings_have_defaults():
    section, _ = small("perceiver_io_flow")
    missing = missing_settings(section)
    assert missing["compute_dtype"] == "float32"
    assert missing["attention"]["implementation"] == "auto"
    assert missing["encoder"]["latent_stack"] == dict(
        qk_dim=None, v_dim=None, widening=1, exact_gelu=False, dropout=0.0,
        attention_dropout=0.0, norm="pre", stochastic_depth=0.0, remat="none",
    )  # fmt: skip
    assert "query_chunk_size" not in missing["decoder"]
    assert missing_settings(small("perceiver_io_classifier")[0])["inputs"] == dict(
        pytorch_padding=False, resolution=None, image_channels=3
    )
    assert missing_settings(small("convnet_classifier")[0]) == {
        "compute_dtype": "float32",
        "image_channels": 3,
    }


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["fourier", "conv"])
def test_fourier_positions_accept_any_size(preset):
    model, params, state = initialised(config_of(preset), images())
    larger = images(24, 20)
    logits = evaluate(model, params, state, larger)
    assert logits.shape == (2, 5) and np.isfinite(logits).all()
    # Positions keep the frequencies of the trained resolution, spread over the new grid: an image
    # enlarged by repeating its pixels gives nearly the same result.
    if preset == "fourier":
        smooth = np.broadcast_to(images().mean((1, 2), keepdims=True), images().shape)
        enlarged = smooth.repeat(2, axis=1).repeat(2, axis=2)
        same = evaluate(model, params, state, smooth)
        assert (
            np.abs(evaluate(model, params, state, enlarged) - same).max() < 0.1 * np.abs(same).max()
        )


def test_learned_positions_accept_one_size():
    model, params, state = initialised(config_of("learned"), images())
    with pytest.raises(UserError, match=r"learned positions for \(16, 16\) inputs, not \(24, 20\)"):
        evaluate(model, params, state, images(24, 20))


@pytest.mark.slow
def test_permuted_pixels_give_the_same():
    model, params, state = initialised(config_of("permuted"), images())
    plain = build(config_of("perceiver_8_cross_attends"))
    oracles.assert_close(
        evaluate(model, params, state, images()), evaluate(plain, params, state, images())
    )


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["conv", "perceiver_conv"])
def test_encode_and_decode_equal_apply(preset):
    model, params, state = initialised(config_of(preset), images())
    key = jax.random.key(0)

    def split(params, state, x):
        encoded, after = model.encode(params, state, key, x, is_training=True)
        return model.decode(params, after, key, encoded, is_training=True)

    def whole(params, state, x):
        return model.apply(params, state, key, inputs=x, is_training=True)

    outputs, after = jax.jit(whole)(params, state, images())
    oracles.assert_close(jax.jit(split)(params, state, images()), (outputs, after))
    moved = jax.tree.map(lambda before, after: np.abs(after - before).max(), state, after)
    assert min(jax.tree.leaves(moved)) > 0


def test_linear_patches():
    inputs = dict(
        name="linear_patches", image_size=(16, 16), patch_size=(4, 8), channels=8, num_bands=3
    )
    model, params, state = initialised(config_of(inputs=inputs), images())
    assert params["patch_embedding"]["w"].shape == (4 * 8 * 3, 8)
    assert params["encoder/cross_attend/attention/key"]["w"].shape[0] == 8 + 2 * 7
    assert evaluate(model, params, state, images()).shape == (2, 5)


CONV = dict(name="conv_features", image_size=(3, 16), channels=8, num_bands=3)
PATCHES = dict(
    name="linear_patches", image_size=(16, 18), patch_size=(4, 4), channels=8, num_bands=3
)


@pytest.mark.parametrize(
    "settings,message",
    [
        (dict(name="perceiver_io_clasifier"), "did you mean 'perceiver_io_classifier'"),
        (dict(encoder__num_latent=3), "model.encoder.num_latent .*did you mean 'num_latents'"),
        (dict(decoder__cross_attend__num_head=3), "model.decoder.cross_attend.num_head "),
        (dict(inputs__bands=3), "model.inputs.bands is not a setting of fourier_pixels"),
        (dict(inputs=dict(name="fourier")), "model.inputs.name is 'fourier'"),
        (dict(inputs=dict(name="fourier_pixels", num_bands=3)), "model.inputs lacks image_size"),
        (dict(attention=dict(key_chunk=3)), "model.attention.key_chunk .*'key_chunk_size'"),
        (dict(compute_dtype="float16"), "model.compute_dtype.*'float16'.*bfloat16"),
        (dict(inputs__resolution=(0, -5)), r"resolution is \(0, -5\), each of .* at least 1"),
        (dict(inputs=CONV), r"image_size=\(3, 16\) is too small.*4x4"),
        (dict(inputs=PATCHES), r"image_size=\(16, 18\) does not divide into patches of \(4, 4\)"),
        (dict(encoder__latent_stack__num_heads=3), "qk_dim=16 does not divide into num_heads=3"),
    ],
    ids=lambda x: " ".join(x) if isinstance(x, dict) else "",
)
def test_wrong_settings(settings, message):
    with pytest.raises(UserError, match=message):
        oracles.random_params_and_state(build(config_of(**settings)).init, inputs=images())


def test_positions_keep_the_frequencies_of_a_given_resolution():
    """A model for images of another size is equal to the one that was trained."""
    larger = images(32, 32)
    model, params, state = initialised(config_of(), images())
    expected = evaluate(model, params, state, larger)
    config = config_of(inputs__image_size=(32, 32))
    with config.unlocked():
        config.inputs.resolution = (16, 16)
    oracles.assert_close(evaluate(build(config), params, state, larger), expected)
    other = evaluate(build(config_of(inputs__image_size=(32, 32))), params, state, larger)
    assert np.abs(other - expected).max() > 1e-3


@every_architecture
def test_input_spec_of_models(name):
    section, inputs = small(name)
    spec = build(section).input_spec["inputs"]
    if name == "perceiver_io_autoencoder":
        assert spec.pop("label").shape == (1, 1, 5)
        assert {(x.shape, x.dtype.name) for x in spec.pop("present").values()} == {((1,), "bool")}
    forms = jax.tree.map(lambda x: ((1, *x.shape[1:]), x.dtype), inputs)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), spec) == forms


def test_grey_images():
    section = config_of(inputs__image_channels=1)
    assert build(section).input_spec["inputs"].shape == (1, 16, 16, 1)


@pytest.mark.parametrize(
    "section, tables",
    [
        (config_of("learned"), {"positions/embeddings": (16, 16)}),
        (config_of("permuted_learned"), {"positions/embeddings": (16, 16)}),
        (config_of("fourier"), {}),
        (
            small("perceiver_io_masked_lm")[0],
            {"positions/embeddings": (8,), "query_positions/embeddings": (8,)},
        ),
    ],
    ids=["learned", "permuted", "fourier", "text"],
)
def test_tables_of_positions(section, tables):
    model = build(section)
    assert model.position_tables() == tables
    params, _ = model.shapes()
    for name, grid in tables.items():
        module, _, leaf = name.rpartition("/")
        assert params[module][leaf].shape[0] == np.prod(grid)


def test_settings_that_arrays_do_not_determine():
    """None of them affects the shape of any array."""
    section = config_of("conv", inputs__pytorch_padding=True, inputs__resolution=(24, 24))
    unseen = build(section).unseen
    at = "config.model"
    assert unseen == {
        f"{at}.inputs.pytorch_padding": True,
        f"{at}.inputs.resolution": (24, 24),
        f"{at}.encoder.num_blocks": 2,
        f"{at}.encoder.cross_attend.num_heads": 1,
        f"{at}.encoder.cross_attend.exact_gelu": False,
        f"{at}.encoder.cross_attend.use_query_residual": True,
        f"{at}.encoder.latent_stack.num_heads": 2,
        f"{at}.encoder.latent_stack.exact_gelu": False,
        f"{at}.encoder.latent_stack.norm": "pre",
        f"{at}.decoder.cross_attend.num_heads": 1,
        f"{at}.decoder.cross_attend.exact_gelu": False,
        f"{at}.decoder.cross_attend.use_query_residual": True,
    }
    own = build(config_of("conv", inputs__resolution=None)).unseen
    assert own[f"{at}.inputs.resolution"] == (16, 16) and own.keys() == unseen.keys()
    other = config_of("conv", encoder__num_blocks=1, inputs__resolution=(8, 8))
    assert jax.tree.map(lambda x: x.shape, build(other).shapes()) == jax.tree.map(
        lambda x: x.shape, build(section).shapes()
    )
