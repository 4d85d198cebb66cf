"""Text models: embeddings, queries at the tokens' positions, any length."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_io.errors import UserError
from perceiver_io.models.architectures import build
from tests.helpers import oracles

pytestmark = pytest.mark.usefixtures("for_cpu")

SIZES = dict(
    vocab_size=11,
    max_length=8,
    embedding_dim=6,
    encoder=dict(
        num_latents=3,
        latent_dim=8,
        num_blocks=1,
        cross_attend=dict(num_heads=2, use_query_residual=True, qk_dim=4, v_dim=8),
        latent_stack=dict(num_layers=2, num_heads=2, qk_dim=4),
    ),
    attention=dict(key_chunk_size=4, fold_projections=True),
    compute_dtype="float32",
)
MASKED_LM = dict(
    SIZES,
    name="perceiver_io_masked_lm",
    decoder=dict(cross_attend=dict(num_heads=2, use_query_residual=False, qk_dim=4, v_dim=6)),
)
CLASSIFIER = dict(
    SIZES,
    name="perceiver_io_text_classifier",
    num_classes=5,
    decoder=dict(cross_attend=dict(num_heads=1, use_query_residual=True)),
)
IDS = jnp.asarray(np.random.default_rng(0).integers(0, 11, (2, 8)))


def made(config):
    model = build(config)
    params, state = oracles.random_params_and_state(model.init, inputs=IDS)

    @jax.jit
    def apply(params, inputs, **keywords):
        return model.apply(params, state, None, inputs=inputs, is_training=False, **keywords)[0]

    return params, apply


@pytest.mark.slow
def test_padding_changes_nothing():
    params, apply = made(MASKED_LM)
    mask = jnp.arange(8)[None] < jnp.array([[5], [8]])
    padded = apply(params, IDS, input_mask=mask)
    assert padded.shape == (2, 8, 11)
    short = apply(params, IDS[:1, :5])
    oracles.assert_close(padded[:1, :5], short)
    other = apply(params, IDS.at[0, 6].set(IDS[0, 6] + 1), input_mask=mask)
    np.testing.assert_array_equal(other, padded)


def test_chosen_places():
    params, apply = made(MASKED_LM)
    places = jnp.array([[6, 1], [0, 7]])
    chosen = apply(params, IDS, query=places)
    expected = jnp.take_along_axis(apply(params, IDS), places[:, :, None], axis=1)
    oracles.assert_close(chosen, expected)


@pytest.mark.slow
def test_inputs_and_outputs_share_the_embeddings():
    params, apply = made(MASKED_LM)
    (row, *_) = set(range(11)) - set(np.ravel(IDS).tolist())

    def logit_of_the_row(params):
        return apply(params, IDS)[..., row].sum()

    gradient = jax.grad(logit_of_the_row)(params)["embeddings"]["embeddings"]
    assert np.abs(gradient[row]).max() > 0
    assert params["logits"].keys() == {"b"}


def test_a_text_that_is_too_long():
    params, apply = made(MASKED_LM)
    with pytest.raises(UserError, match="9 tokens.*8 positions.*max_length"):
        apply(params, jnp.zeros((1, 9), int))


def test_classifier():
    params, apply = made(CLASSIFIER)
    logits = apply(params, IDS, input_mask=jnp.ones((2, 8), bool))
    assert logits.shape == (2, 5) and np.isfinite(logits).all()
    assert params["queries"]["embeddings"].shape == (1, 8)


def test_with_a_local_start_latents_and_queries_attend_to_their_own_part_of_a_text():
    local = build(
        dict(
            MASKED_LM,
            max_length=64,
            embedding_dim=32,
            encoder=dict(
                num_latents=16,
                latent_dim=48,
                cross_attend=dict(num_heads=2, qk_dim=32, v_dim=48),
                latent_stack=dict(num_layers=1, num_heads=2),
            ),
            decoder=dict(cross_attend=dict(num_heads=2, qk_dim=32, use_query_residual=False)),
            start="local",
        )
    )
    ids = jnp.asarray(np.random.default_rng(0).integers(0, 11, (1, 64)))

    @jax.jit
    def maps(ids):
        params, state = local.init(jax.random.key(0), inputs=ids)
        (read,), _ = local.encoder_maps(params, state, None, ids, latents=jnp.arange(16))
        encoded, _ = local.encode(params, state, None, ids, is_training=False)
        asked, _ = local.decoder_map(params, state, None, encoded, query=jnp.arange(64)[None])
        return read, asked

    read, asked = maps(ids)

    def mean_distance(weights):
        """From the place of a query to the places that it attends to, as a share of the text."""
        own, other = (jnp.linspace(0, 1, size) for size in weights.shape[-2:])
        return (weights * jnp.abs(own[:, None] - other)).sum(-1).mean()

    assert mean_distance(read) < 0.25  # One third for weights that are all the same.
    assert mean_distance(asked) < 0.25
