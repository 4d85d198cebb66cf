"""BERT against NumPy, and at chosen places."""

import functools

import jax
import numpy as np
import pytest

from perceiver_io.models.architectures import build
from tests.helpers import oracles

pytestmark = pytest.mark.usefixtures("for_cpu")

SECTION = dict(
    name="bert_masked_lm",
    vocab_size=30,
    max_length=9,
    width=8,
    layers=dict(num_layers=2, num_heads=2, widening=4, norm="post", exact_gelu=True),
)


def norm(x, leaf):
    centred = x - x.mean(-1, keepdims=True)
    scaled = centred / np.sqrt(np.square(centred).mean(-1, keepdims=True) + 1e-5)
    return scaled * leaf["scale"] + leaf["offset"]


def in_numpy(params, ids, mask):
    """Logits [M, V] of one text, as in the BERT paper."""
    erf = np.vectorize(__import__("math").erf)
    layers = {name.split("self_attend/")[-1]: p for name, p in params.items() if "self_att" in name}
    table = params["embeddings"]["embeddings"]
    x = norm(table[ids] + params["positions"]["embeddings"][: len(ids)], params["embeddings_norm"])
    for number in range(2):
        layer = jax.tree.map(lambda leaf, n=number: np.asarray(leaf)[n], layers)

        def linear(name, x, layer=layer):
            return x @ layer[name]["w"] + layer[name]["b"]

        heads = [linear(f"attention/{k}", x).reshape(-1, 2, 4) for k in ("query", "key", "value")]
        logits = np.einsum("qhc,khc->hqk", *heads[:2]) / 2
        logits = np.where(mask, logits, -np.inf)
        weights = np.exp(logits - logits.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        attended = np.einsum("hqk,khc->qhc", weights, heads[2]).reshape(-1, 8)
        x = norm(x + linear("attention/output", attended), layer["norm"])
        hidden = linear("mlp/hidden", x)
        hidden = 0.5 * hidden * (1 + erf(hidden / np.sqrt(2)))
        x = norm(x + linear("mlp/output", hidden), layer["mlp/norm"])
    return x @ table.T + params["logits"]["b"]


@pytest.fixture(scope="module")
def model():
    built = build(SECTION)
    params, state = oracles.random_params_and_state(built.init, **built.input_spec)
    return built, params, state


@pytest.mark.slow
def test_bert_equals_numpy(model):
    built, params, state = model
    rng = np.random.default_rng(0)
    ids, mask = rng.integers(0, 30, (3, 7), np.int32), np.ones((3, 7), bool)
    mask[1, 5:], mask[2, 1:] = False, False
    query = rng.integers(0, 7, (3, 4), np.int32)
    apply = jax.jit(functools.partial(built.apply, is_training=False))
    found, _ = apply(params, state, None, inputs=ids, input_mask=mask, query=query)
    whole, _ = apply(params, state, None, inputs=ids, input_mask=mask)
    found, whole, params = jax.tree.map(np.asarray, (found, whole, params))
    for row in range(3):
        expected = in_numpy(params, ids[row], mask[row])
        oracles.assert_close(whole[row][mask[row]], expected[mask[row]].astype(np.float32))
        oracles.assert_close(found[row], whole[row][query[row]])


def test_norms_before_the_branches_end_with_one(model):
    built = build(dict(SECTION, layers=dict(SECTION["layers"], norm="pre", dropout=0.5)))
    params, state = oracles.random_params_and_state(built.init, **built.input_spec)
    assert "final_norm" in params and "embeddings_norm" not in params
    ids = np.arange(9, dtype=np.int32)[None]
    apply = jax.jit(built.apply, static_argnames="is_training")
    (one, _), (other, _), (evaluated, _) = (
        apply(params, state, key, inputs=ids, is_training=training)
        for key, training in ((jax.random.key(0), True), (jax.random.key(1), True), (None, False))
    )
    assert np.abs(one - other).max() > 0.1 and np.isfinite(evaluated).all()
