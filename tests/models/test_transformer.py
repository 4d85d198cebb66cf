"""Transformer layers: against NumPy, masks, norms, randomness, and forms of attention."""

import dataclasses

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_io.models.settings import AttentionForm, SelfAttendSettings
from perceiver_io.models.transformer import SelfAttend
from tests.helpers import oracles
from tests.helpers.oracles import normal, random_mask, values_and_gradients

pytestmark = pytest.mark.usefixtures("for_cpu")

SETTINGS = SelfAttendSettings(num_heads=3, qk_dim=9, v_dim=12, widening=2)
FORMS = {
    "textbook": AttentionForm("textbook"),
    "auto": AttentionForm(),
    "chunks": AttentionForm(key_chunk_size=2),
}


def layer(settings=SETTINGS, form=AttentionForm(), is_training=True, **keywords):
    return hk.transform(
        lambda x: SelfAttend(settings, form)(x, is_training=is_training, **keywords)
    )


@pytest.mark.parametrize("norm", ["pre", "post"])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("masked", [False, True])
def test_equals_numpy(masked, form, norm):
    x = normal(2, 5, 6)
    masks = {}
    if masked:
        masks = dict(key_mask=random_mask(2, 5), query_mask=random_mask(2, 5, seed=2, empty=False))
    settings = dataclasses.replace(SETTINGS, norm=norm)
    init, apply = layer(settings, FORMS[form], **masks)
    params = oracles.random_params(init, x)
    oracle = dict(pre=oracles.self_attend, post=oracles.post_norm_self_attend)[norm]
    expected = oracle(x, oracles.as_float64(params), "self_attend", 3, **masks)
    oracles.assert_close(jax.jit(apply)(params, None, x), expected)


@pytest.mark.parametrize("form", ["auto", "chunks"])
def test_bias_and_masks_in_every_form(form):
    """Values and gradients, including that of the bias."""
    x, bias = normal(2, 5, 6), normal(1, 3, 5, 5, seed=1)
    masks = dict(key_mask=random_mask(2, 5), query_mask=random_mask(2, 5, seed=2))
    params = oracles.random_params(layer().init, x)

    def outcome(form):
        def run(params, x, bias):
            return layer(form=form, bias=bias, **masks).apply(params, None, x)

        return values_and_gradients(run, params, x, bias)

    textbook = outcome(FORMS["textbook"])
    assert np.abs(textbook[1][2]).max() > 1e-3
    oracles.assert_close(outcome(FORMS[form]), textbook)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("rate", ["dropout", "attention_dropout", "stochastic_depth"])
def test_randomness_is_for_training_only(rate, form):
    x, form = normal(4, 9, 6), FORMS[form]
    params = oracles.random_params(layer().init, x)
    settings = dataclasses.replace(SETTINGS, **{rate: 0.4})
    expected = jax.jit(layer(form=form).apply)(params, None, x)
    evaluated = jax.jit(layer(settings, form, is_training=False).apply)(params, None, x)
    np.testing.assert_array_equal(evaluated, expected)
    training = jax.jit(layer(settings, form).apply)
    trained = [training(params, jax.random.key(seed), x) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(trained[0], trained[1])
    assert np.abs(trained[0] - trained[2]).max() > 1e-3
    assert np.abs(trained[0] - expected).max() > 1e-3


@pytest.mark.slow
def test_stochastic_depth_drops_branches_of_whole_examples():
    """Attention adds one and the MLP adds two, which shows which branches were kept."""
    x = jnp.zeros((400, 3, 6))
    settings = dataclasses.replace(SETTINGS, stochastic_depth=0.5)
    apply = jax.jit(layer(settings).apply)
    params = jax.tree.map(jnp.zeros_like, oracles.random_params(layer().init, x))
    params["self_attend/attention/output"]["b"] += 1.0
    params["self_attend/mlp/output"]["b"] += 2.0
    result = np.asarray(apply(params, jax.random.key(0), x))
    np.testing.assert_array_equal(result, np.broadcast_to(result[:, :1, :1], result.shape))
    values, counts = np.unique(result[:, 0, 0], return_counts=True)
    np.testing.assert_array_equal(values, [0, 2, 4, 6])
    np.testing.assert_allclose(counts / 400, 0.25, atol=5 * np.sqrt(3 / 16 / 400))
