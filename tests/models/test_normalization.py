"""Normalisation as the first step of a model."""

import jax
import numpy as np
import pytest

from perceiver_io.errors import UserError
from perceiver_io.models.architectures import build
from perceiver_io.models.normalization import normalized
from tests.helpers import oracles
from tests.helpers.predictions import CLASSIFIER

pytestmark = pytest.mark.usefixtures("for_cpu")

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
MODEL = build(dict(CLASSIFIER, num_classes=5))
PIXELS = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), np.uint8)


@pytest.mark.slow
def test_pixels_are_normalised_by_the_model():
    model = normalized(MODEL, (MEAN, STD))
    values = ((PIXELS / 255 - MEAN) / STD).astype(np.float32)
    variables = oracles.random_params_and_state(MODEL.init, inputs=values)
    expected, _ = jax.jit(MODEL.apply, static_argnames="is_training")(
        *variables, None, inputs=values, is_training=False
    )
    for pixels in (PIXELS, PIXELS.astype(np.float32)):
        found, _ = jax.jit(model.apply, static_argnames="is_training")(
            *variables, None, inputs=pixels, is_training=False
        )
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    shapes = jax.eval_shape(model.init, jax.random.key(0), inputs=PIXELS)
    assert jax.tree.map(np.shape, variables) == jax.tree.map(lambda x: x.shape, shapes)


@pytest.mark.parametrize(
    "mean, std", [((np.nan,) * 3, STD), (MEAN, (np.inf,) * 3), (MEAN, (0.2, 0.0, 0.3))]
)
def test_numbers_that_cannot_normalise(mean, std):
    with pytest.raises(UserError, match="must be finite, and std above 0"):
        normalized(MODEL, (mean, std))


def test_without_normalisation_a_model_is_unchanged():
    assert normalized(MODEL, None) is MODEL
