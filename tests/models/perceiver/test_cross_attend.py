"""The cross-attention block: against NumPy, shared sides, masks, dropout."""

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_io.models.perceiver.cross_attend import CrossAttend
from perceiver_io.models.perceiver.tokens import Tokens
from perceiver_io.models.settings import AttentionForm, CrossAttendSettings
from tests.helpers import oracles
from tests.helpers.oracles import normal, random_mask, values_and_gradients

pytestmark = pytest.mark.usefixtures("for_cpu")

FORMS = {
    "textbook": AttentionForm("textbook"),
    "unfolded": AttentionForm(fold_projections=False),
    "folded": AttentionForm(),
    "chunked": AttentionForm(key_chunk_size=4),
}


def made(form, *arguments, num_heads=1, residual=True, is_training=True, masks=(), **settings):
    """(parameters without zeros, function of parameters, queries and inputs) of a block."""
    settings = CrossAttendSettings(num_heads=num_heads, use_query_residual=residual, **settings)
    key_mask, query_mask = masks or (None, None)

    def run(queries, inputs):
        block = CrossAttend(settings, form)
        queries, inputs = Tokens(queries, mask=query_mask), Tokens(inputs, mask=key_mask)
        return block(queries, inputs, is_training=is_training)

    init, apply = hk.transform(run)
    return oracles.random_params(init, *arguments), jax.jit(apply)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("num_heads", [1, 2])
def test_equals_numpy(num_heads, form):
    """With different widths of queries, inputs, query/key and values, and both masks."""
    queries, inputs = normal(2, 5, 7), normal(2, 9, 4, seed=1)
    masks = random_mask(2, 9), random_mask(2, 5, seed=2, empty=False)
    params, apply = made(
        FORMS[form], queries, inputs, num_heads=num_heads, masks=masks, qk_dim=6, v_dim=8,
        widening=2,
    )  # fmt: skip
    exact = oracles.as_float64(params)
    key_mask, query_mask = masks
    expected = oracles.cross_attend(
        queries, inputs, exact, "cross_attend", num_heads, residual=True, key_mask=key_mask,
        query_mask=query_mask,
    )  # fmt: skip
    oracles.assert_close(apply(params, None, queries, inputs), expected)


def test_without_residual_and_with_the_inputs_width():
    queries, inputs = normal(1, 5, 6), normal(3, 9, 4, seed=1)
    params, apply = made(FORMS["textbook"], queries, inputs, residual=False)
    assert params["cross_attend/attention/query"]["w"].shape == (6, 4)
    assert params["cross_attend/attention/value"]["w"].shape == (4, 4)
    exact = oracles.as_float64(params)
    expected = oracles.cross_attend(queries, inputs, exact, "cross_attend", 1, residual=False)
    oracles.assert_close(apply(params, None, queries, inputs), expected)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["textbook", "folded"])
def test_shared_latents_equal_their_copies(form):
    latents, inputs = normal(1, 4, 6), normal(3, 9, 6, seed=1)
    params, apply = made(FORMS[form], latents, inputs)
    run = lambda *x: apply(x[0], None, *x[1:])  # noqa: E731
    value, (of_params, of_latents, of_inputs) = values_and_gradients(run, params, latents, inputs)
    copies = jnp.repeat(latents, 3, axis=0)
    expected, (params_too, of_copies, inputs_too) = values_and_gradients(
        run, params, copies, inputs
    )
    oracles.assert_close(value, expected)
    oracles.assert_close((of_params, of_inputs), (params_too, inputs_too))
    oracles.assert_close(of_latents, of_copies.sum(axis=0, keepdims=True))


def test_shared_latents_are_projected_once():
    def flops(batch_of_latents):
        arguments = (normal(batch_of_latents, 64, 64), normal(8, 2, 4))
        params, apply = made(FORMS["folded"], *arguments, num_heads=2, qk_dim=64)
        return apply.lower(params, None, *arguments).cost_analysis()["flops"]

    # One [64, 64] x [64, 64] product (two FLOPs per multiply-add) instead of eight.
    assert flops(8) - flops(1) >= 7 * 2 * 64**3


def test_map_equals_the_softmax_inside():
    queries, inputs = normal(1, 5, 7), normal(2, 9, 4, seed=1)
    mask = random_mask(2, 9, empty=False)
    block = lambda: CrossAttend(CrossAttendSettings(num_heads=2, use_query_residual=True))  # noqa: E731

    def shown(queries, inputs):
        return block().attention_map(Tokens(queries), Tokens(inputs, mask=mask))

    transformed = hk.without_apply_rng(hk.transform(shown))
    whole = hk.transform(lambda q, x: block()(Tokens(q), Tokens(x), is_training=False))
    params = oracles.random_params(whole.init, queries, inputs)
    weights = transformed.apply(params, queries, inputs)
    exact = oracles.as_float64(params)

    def heads(x, norm, layer):
        x = oracles.layer_norm(x, exact[f"cross_attend/{norm}"])
        return oracles.linear(x, exact[f"cross_attend/attention/{layer}"]).reshape(
            *x.shape[:2], 2, -1
        )

    q, k = heads(queries, "norm_queries", "query"), heads(inputs, "norm_inputs", "key")
    expected = oracles.attention_weights(q, k, q.shape[-1] ** -0.5, mask)
    oracles.assert_close(weights, expected)
    np.testing.assert_allclose(weights.sum(-1), 1, rtol=1e-5)


RATES = [dict(dropout=0.4), dict(attention_dropout=0.4)]


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("rates", RATES, ids=lambda rates: next(iter(rates)))
def test_dropout_is_for_training_only(rates, form):
    latents, inputs = normal(1, 4, 6), normal(2, 9, 6, seed=1)
    params, without = made(FORMS[form], latents, inputs)
    expected = without(params, None, latents, inputs)
    _, evaluated = made(FORMS[form], latents, inputs, is_training=False, **rates)
    oracles.assert_close(evaluated(params, None, latents, inputs), expected)
    _, training = made(FORMS[form], latents, inputs, **rates)
    trained = [training(params, jax.random.key(seed), latents, inputs) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(trained[0], trained[1])
    assert np.abs(trained[0] - trained[2]).max() > 1e-3
    assert np.abs(trained[0] - expected).max() > 1e-3


@pytest.mark.parametrize("form", ["textbook", "folded"])
def test_dropout_rate_of_a_residual_branch(form):
    """An attention output of ones and an MLP output of zeros make the dropout mask visible."""
    queries, inputs = jnp.zeros((50, 40, 6)), normal(50, 3, 6)
    params, apply = made(FORMS[form], queries, inputs, dropout=0.25)
    params = jax.tree.map(jnp.zeros_like, params)
    params["cross_attend/attention/output"]["b"] += 1.0
    values = np.asarray(apply(params, jax.random.key(0), queries, inputs))
    assert set(np.unique(values)) == {np.float32(0), np.float32(1 / 0.75)}
    assert abs((values == 0).mean() - 0.25) < 5 * np.sqrt(0.25 * 0.75 / values.size)


def test_long_inputs_are_never_projected_as_a_whole():
    """Keys and values of all inputs would be 2 x 4096 x 256 numbers."""
    arguments = (normal(1, 2, 8), normal(1, 4096, 8))
    form = AttentionForm(key_chunk_size=128)
    params, apply = made(form, *arguments, qk_dim=256, v_dim=256)
    compiled = apply.lower(params, None, *arguments).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 4 * 4096 * 256
