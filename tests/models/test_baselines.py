"""The baselines of the Perceiver paper: how they depend on the order of pixels."""

import functools

import jax
import numpy as np
import pytest

from perceiver_io.errors import UserError
from perceiver_io.models.architectures import build
from tests.helpers import oracles
from tests.helpers.architectures import initialised, small

pytestmark = pytest.mark.usefixtures("for_cpu")

BASELINES = ("resnet_classifier", "vit_classifier", "transformer_classifier")


def logits(section, params, state, x):
    apply = jax.jit(functools.partial(build(section).apply, is_training=False))
    return apply(params, state, None, inputs=x)[0]


def permuted(section):
    return section | dict(inputs=dict(name="permuted", inputs=section["inputs"], seed=3))


@pytest.mark.slow
@pytest.mark.parametrize("name", BASELINES)
def test_only_the_transformer_ignores_the_order_of_pixels(name):
    section, x = small(name)
    _, params, state = initialised(section, x)
    given, shuffled = (logits(one, params, state, x) for one in (section, permuted(section)))
    if name == "transformer_classifier":
        oracles.assert_close(given, shuffled)
    else:
        assert np.abs(given - shuffled).max() > 1e-2


@pytest.mark.slow
def test_vit_reads_whole_patches():
    """Pixels that move within a patch change the result, together with their positions."""
    section, x = small("vit_classifier")
    _, params, state = initialised(section, x)
    moved = x.copy()
    moved[:, 0, :8] = x[:, 0, 7::-1]
    given, changed = (logits(section, params, state, one) for one in (x, moved))
    assert np.abs(given - changed).max() > 1e-3
    assert params["patch_embedding"]["w"].shape == (4 * 8 * (3 + 2 * 7), 6)


def test_depths_and_widths_of_a_resnet():
    section, _ = small("resnet_classifier")
    for wrong in (dict(depths=(1,)), dict(widths=(8, 10))):
        with pytest.raises(UserError, match="give one of each for each stage"):
            build(section | wrong)
