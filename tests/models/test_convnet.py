"""The convolutional baseline: sizes, and statistics that only training updates."""

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np

from perceiver_io.models.convnet import ConvNet
from tests.helpers import oracles


def test_convnet():
    images = jnp.asarray(np.random.default_rng(0).normal(size=(2, 9, 16, 3)), jnp.float32)
    model = hk.transform_with_state(lambda x, training: ConvNet(5, (4, 8))(x, is_training=training))
    params, state = model.init(jax.random.key(0), images, True)
    assert params["conv_1"]["w"].shape == (3, 3, 4, 8)
    params = oracles.randomised(params)
    logits, trained = model.apply(params, state, None, images, True)
    assert logits.shape == (2, 5) and np.isfinite(logits).all()
    _, evaluated = model.apply(params, trained, None, images, False)
    jax.tree.map(np.testing.assert_array_equal, evaluated, trained)
    moved = jax.tree.map(lambda a, b: float(np.abs(a - b).max()), state, trained)
    assert min(jax.tree.leaves(moved)) > 0
