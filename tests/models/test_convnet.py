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
    init, apply = (jax.jit(function, static_argnames="training") for function in model)
    params, state = init(jax.random.key(0), images, training=True)
    assert params["conv_1"]["w"].shape == (3, 3, 4, 8)
    params = oracles.randomised(params)
    logits, trained = apply(params, state, None, images, training=True)
    assert logits.shape == (2, 5) and np.isfinite(logits).all()
    _, evaluated = apply(params, trained, None, images, training=False)
    jax.tree.map(np.testing.assert_array_equal, evaluated, trained)
    moved = jax.tree.map(lambda a, b: float(np.abs(a - b).max()), state, trained)
    assert min(jax.tree.leaves(moved)) > 0
