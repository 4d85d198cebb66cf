"""The blocks against NumPy; one block over all queries against the same block in pieces."""

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from perceiver_io.models.blocks import Attention, CrossAttend, SelfAttend

from perceiver_io.models.attention import AttentionForm, attention_form
from perceiver_io.models.layers import MLP, LayerNorm
from perceiver_io.models.perceiver.tokens import Tokens
from tests import oracles

FORMS = {
    "plain": AttentionForm(None, False),
    "folded": AttentionForm(None, True),
    "chunked": AttentionForm(4, True),
}


def random(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def random_mask(*shape, seed=0):
    mask = np.random.default_rng(seed).random(shape) < 0.6
    mask[:, 0] = True
    return mask


def made(function, *arguments, form=FORMS["plain"]):
    """(parameters without zeros, function of parameters and arguments) of a Haiku function."""

    def in_form(*arguments):
        with attention_form(form):
            return function(*arguments)

    transformed = hk.transform(in_form)
    apply = jax.jit(lambda params, *x: transformed.apply(params, jax.random.key(1), *x))
    return oracles.random_params(transformed.init, *arguments), apply


def test_layer_norm():
    x = 5 + 3 * random(2, 4, 6)
    params, apply = made(lambda x: LayerNorm(name="norm")(x), x)
    expected = oracles.layer_norm(x.astype(np.float64), oracles.as_float64(params)["norm"])
    oracles.assert_close(apply(params, x), expected)


def test_layer_norm_takes_statistics_in_float32():
    x = jnp.asarray(300 + random(2, 4, 64), jnp.bfloat16)
    params, apply = made(lambda x: LayerNorm(name="norm")(x), x)
    params = jax.tree.map(lambda x: x.astype(jnp.bfloat16), params)
    result = apply(params, x)
    expected = oracles.layer_norm(
        np.asarray(x, np.float64), jax.tree.map(lambda x: np.asarray(x, np.float64), params)["norm"]
    )
    assert result.dtype == jnp.bfloat16
    oracles.assert_close(result, expected, 0.02)


def test_mlp():
    x = random(2, 4, 6)
    params, apply = made(lambda x: MLP(widening=3)(x), x)
    assert params["mlp/hidden"]["w"].shape == (6, 18)
    oracles.assert_close(apply(params, x), oracles.mlp(x, oracles.as_float64(params), "mlp"))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("num_heads", [1, 2])
def test_cross_attend(num_heads, form):
    """Widths of queries, inputs, query/key and values all differ; both masks."""
    queries, inputs = random(2, 5, 7), random(2, 9, 4, seed=1)
    key_mask, query_mask = random_mask(2, 9), random_mask(2, 5, seed=1)
    key_mask[1] = False

    def run(queries, inputs):
        block = CrossAttend(num_heads, use_query_residual=True, qk_dim=6, v_dim=8, widening=2)
        return block.over(
            Tokens(inputs, mask=jnp.asarray(key_mask)),
            queries=Tokens(queries),
            num_queries=5,
            is_training=True,
        )(Tokens(queries, mask=jnp.asarray(query_mask)))

    params, apply = made(run, queries, inputs, form=FORMS[form])
    expected = oracles.cross_attend(
        queries,
        inputs,
        oracles.as_float64(params),
        "cross_attend",
        num_heads,
        residual=True,
        key_mask=key_mask,
        query_mask=query_mask,
    )
    oracles.assert_close(apply(params, queries, inputs), expected, 1e-5)


def test_cross_attend_without_residual_and_with_the_inputs_widths():
    queries, inputs = random(1, 5, 6), random(3, 9, 4, seed=1)

    def run(queries, inputs):
        block = CrossAttend(1, use_query_residual=False)
        return block.read(Tokens(inputs), queries, True)

    params, apply = made(run, queries, inputs)
    assert params["cross_attend/attention/query"]["w"].shape == (6, 4)
    assert params["cross_attend/attention/value"]["w"].shape == (4, 4)
    expected = oracles.cross_attend(
        queries, inputs, oracles.as_float64(params), "cross_attend", 1, residual=False
    )
    oracles.assert_close(apply(params, queries, inputs), expected)


@pytest.mark.parametrize("masked", [False, True])
def test_self_attend(masked):
    x = random(2, 5, 6)
    mask = jnp.asarray(random_mask(2, 5)) if masked else None
    params, apply = made(lambda x: SelfAttend(3, 9, 12, 2)(x, mask, True), x)
    expected = oracles.self_attend(x, oracles.as_float64(params), "self_attend", 3, mask)
    oracles.assert_close(apply(params, x), expected)


def gradients_of(apply, params, *arguments):
    """Value, and gradients of a fixed random projection of it with respect to everything."""

    @jax.jit
    def both(*arguments):
        value, pullback = jax.vjp(apply, *arguments)
        return value, pullback(jnp.asarray(random(*value.shape, seed=5)))

    return both(params, *arguments)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["folded", "chunked"])
@pytest.mark.parametrize("num_heads", [1, 2])
@pytest.mark.parametrize("num_queries", [3, 20], ids=["few queries", "many queries"])
def test_forms_agree_in_values_and_gradients(num_queries, num_heads, form):
    queries, features, positions = random(1, num_queries, 6), random(2, 10, 3), random(1, 10, 5)
    mask = jnp.asarray(random_mask(2, 10))

    def run(queries, features, positions):
        tokens = Tokens(features, positions, mask)
        return CrossAttend(num_heads, True).read(tokens, queries, True)

    arguments = (queries, features, positions)
    params, plain = made(run, *arguments)
    _, other = made(run, *arguments, form=FORMS[form])
    oracles.assert_close(
        gradients_of(other, params, *arguments), gradients_of(plain, params, *arguments), 1e-5
    )


def test_shared_latents_give_what_their_copies_give():
    latents, inputs = random(1, 4, 6), random(3, 9, 6, seed=1)

    def run(latents, inputs):
        return CrossAttend(1, True).read(Tokens(inputs), latents, True)

    params, apply = made(run, latents, inputs, form=FORMS["folded"])
    value, (of_params, of_latents, of_inputs) = gradients_of(apply, params, latents, inputs)
    copies = np.repeat(latents, 3, axis=0)
    expected, (params_too, of_copies, inputs_too) = gradients_of(apply, params, copies, inputs)
    oracles.assert_close(value, expected)
    oracles.assert_close((of_params, of_inputs), (params_too, inputs_too))
    oracles.assert_close(of_latents, of_copies.sum(axis=0, keepdims=True))


def test_shared_latents_are_projected_once():
    def flops(batch_of_latents):
        def run(latents, inputs):
            return CrossAttend(2, True, qk_dim=64).read(Tokens(inputs), latents, True)

        arguments = (random(batch_of_latents, 64, 64), random(8, 2, 4))
        params, apply = made(run, *arguments)
        return jax.jit(apply).lower(params, *arguments).cost_analysis()["flops"]

    # One [64, 64] x [64, 64] product (two FLOPs a multiply-add) in place of eight.
    assert flops(8) - flops(1) >= 7 * 2 * 64**3


def test_pieces_of_the_queries_give_what_all_of_them_give():
    queries, inputs = random(2, 8, 6), random(2, 3, 4, seed=1)
    mask = jnp.asarray(random_mask(2, 8))

    def run(queries, inputs, sizes):
        block = CrossAttend(1, True).over(
            Tokens(inputs), queries=Tokens(queries), num_queries=8, is_training=True
        )
        starts = np.cumsum([0, *sizes[:-1]])
        parts = [slice(a, a + n) for a, n in zip(starts, sizes, strict=True)]
        return jnp.concatenate(
            [block(Tokens(queries[:, part], mask=mask[:, part])) for part in parts], axis=1
        )

    whole, pieces = (lambda q, x, sizes=sizes: run(q, x, sizes) for sizes in ([8], [3, 1, 4]))
    params, apply = made(whole, queries, inputs)
    params_of_pieces, apply_to_pieces = made(pieces, queries, inputs)
    assert params.keys() == params_of_pieces.keys()
    oracles.assert_close(
        gradients_of(apply_to_pieces, params, queries, inputs),
        gradients_of(apply, params, queries, inputs),
    )


def test_long_inputs_are_never_projected_as_a_whole():
    """Keys and values of all inputs would take 2 x 4096 x 256 numbers."""

    def run(latents, inputs):
        return CrossAttend(4, True, qk_dim=256, v_dim=256).read(Tokens(inputs), latents, True)

    arguments = (random(1, 2, 8), random(1, 4096, 8))
    params, apply = made(run, *arguments, form=AttentionForm(128, True))
    compiled = jax.jit(apply).lower(params, *arguments).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 4 * 4096 * 256


@pytest.mark.parametrize("rates", [(0.4, 0.0), (0.0, 0.4)], ids=["dropout", "attention_dropout"])
def test_dropout_is_for_training_only(rates):
    latents, inputs = random(1, 4, 6), random(2, 9, 6, seed=1)

    def function(is_training, rates):
        def run(latents, inputs):
            dropout = dict(zip(("dropout", "attention_dropout"), rates, strict=True))
            x = CrossAttend(1, True, **dropout).read(Tokens(inputs), latents, is_training)
            return SelfAttend(2, 6, 6, **dropout)(x, None, is_training)

        return hk.transform(run)

    without = function(True, (0.0, 0.0))
    params = oracles.random_params(without.init, latents, inputs)
    expected = jax.jit(without.apply)(params, None, latents, inputs)
    evaluated = jax.jit(function(False, rates).apply)(params, None, latents, inputs)
    np.testing.assert_array_equal(evaluated, expected)
    training = jax.jit(function(True, rates).apply)
    trained = [training(params, jax.random.key(seed), latents, inputs) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(trained[0], trained[1])
    assert np.abs(trained[0] - trained[2]).max() > 1e-3
    assert np.abs(trained[0] - expected).max() > 1e-3


def test_dropout_rate_of_a_residual_branch():
    """An attention output that is all ones and an MLP that is zero leave the mask to be seen."""
    queries, inputs = np.zeros((50, 40, 6), np.float32), random(50, 3, 6)

    def run(queries, inputs):
        return CrossAttend(1, True, dropout=0.25).read(Tokens(inputs), queries, True)

    params, apply = made(run, queries, inputs)
    params = hk.data_structures.map(
        lambda module, name, x: jnp.full_like(
            x, module == "cross_attend/attention/output" and name == "b"
        ),
        params,
    )
    values = np.asarray(apply(params, queries, inputs))
    assert set(np.unique(values)) == {np.float32(0), np.float32(1 / 0.75)}
    assert abs((values == 0).mean() - 0.25) < 5 * np.sqrt(0.25 * 0.75 / values.size)


@pytest.mark.parametrize("widths,name", [((9, 8), "qk_dim=9"), ((8, 10), "v_dim=10")])
def test_widths_that_heads_do_not_divide(widths, name):
    with pytest.raises(ValueError, match=f"{name} does not divide into 4 heads"):
        hk.transform(lambda: Attention(4, *widths, 8, 0.0)).init(jax.random.key(0))
