"""Models of point clouds: Fourier features against NumPy, whatever the compute dtype."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_io.models.architectures import build
from tests.helpers import oracles
from tests.helpers.architectures import CORE, LAYERS, POINTS
from tests.helpers.sections import core

pytestmark = pytest.mark.usefixtures("for_cpu")

INPUTS = dict(name="fourier_points", num_points=12, num_bands=4, max_frequency=1120)
ENCODERS = {
    "perceiver_io_classifier": CORE,
    "perceiver_classifier": dict(
        encoder=dict(
            num_latents=3,
            latent_dim=8,
            cross_attends=(0, 1),
            stacks=(0, 0),
            latent_stack=core()["encoder"]["latent_stack"],
        )
    ),
}


def features(points):
    """Coordinates, sines and cosines at 4 frequencies from 1 to 1120, in float64."""
    angles = np.pi * points[..., None].astype(np.float64) * np.linspace(1, 1120, 4)
    waves = [f(angles).reshape(*points.shape[:2], -1) for f in (np.sin, np.cos)]
    return np.concatenate([points, *waves], -1)


def section(name, **inputs):
    return dict(name=name, num_classes=5, inputs=INPUTS | inputs, **ENCODERS[name])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_features_are_exact_in_any_compute_dtype(dtype):
    model = build(section("perceiver_io_classifier") | dict(compute_dtype=dtype))
    params, state = oracles.random_params_and_state(model.init, inputs=POINTS)
    encode = jax.jit(functools.partial(model.encode, is_training=False))
    encoded, _ = encode(params, state, None, inputs=POINTS)
    tolerance = 1e-3 if dtype == "float32" else 1e-2
    found = np.asarray(encoded.tokens.features, np.float32)
    np.testing.assert_allclose(found, features(POINTS), atol=tolerance)


@pytest.mark.parametrize("name", ENCODERS)
def test_logits_do_not_depend_on_the_order_of_points(name):
    model = build(section(name))
    params, state = oracles.random_params_and_state(model.init, inputs=POINTS)
    apply = jax.jit(lambda x: model.apply(params, state, None, inputs=x, is_training=False)[0])
    logits = apply(POINTS)
    assert logits.shape == (2, 5) and np.ptp(logits, axis=0).min() > 0
    np.testing.assert_allclose(apply(POINTS[:, ::-1]), logits, rtol=1e-4, atol=1e-4)
    textbook = build(section(name) | dict(attention=dict(implementation="textbook")))
    apply = jax.jit(functools.partial(textbook.apply, is_training=False))
    expected, _ = apply(params, state, None, inputs=POINTS)
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4)


def test_a_grid_of_points_has_maps_on_it():
    inputs = dict(name="fourier_point_grid", grid=(3, 4), num_bands=4, max_frequency=1120)
    model = build(dict(section("perceiver_io_classifier"), inputs=inputs))
    assert model.input_spec["inputs"].shape == (1, 12, 3)
    params, state = oracles.random_params_and_state(model.init, inputs=POINTS)
    latents = jnp.arange(2)
    maps, _ = jax.jit(model.encoder_maps)(params, state, None, inputs=POINTS, latents=latents)
    assert maps[0].shape == (2, 1, 2, 3, 4)
    np.testing.assert_allclose(maps[0].sum((-1, -2)), 1, rtol=1e-5)


@pytest.mark.parametrize(
    "baseline",
    [
        dict(name="resnet_classifier", depths=(1,), widths=(8,)),
        dict(name="vit_classifier", patch_size=(1, 2), width=6, layers=LAYERS),
        dict(name="transformer_classifier", width=6, layers=LAYERS),
    ],
    ids=lambda x: x["name"],
)
def test_baselines_read_the_features_too(baseline):
    grid = dict(name="fourier_point_grid", grid=(3, 4), num_bands=4, max_frequency=1120)
    params, _ = build(dict(baseline, num_classes=5, inputs=grid)).shapes()
    inputs = {x.shape[-2] for module in params.values() for x in module.values() if x.ndim > 1}
    # ViT's patches have two points.
    assert inputs & {features(POINTS).shape[-1], 2 * features(POINTS).shape[-1]}
