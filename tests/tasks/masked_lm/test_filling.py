"""Filling in masked tokens: at once, step by step, padded, restricted."""

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_io.errors import UserError
from perceiver_io.models.architectures import Architecture
from perceiver_io.models.perceiver.decoder import Decoder
from perceiver_io.models.perceiver.encoder import SingleReadEncoder
from perceiver_io.models.perceiver.outputs import PositionProjection
from perceiver_io.models.perceiver.perceiver import PerceiverIO
from perceiver_io.models.perceiver.positions import LearnedPositions
from perceiver_io.models.perceiver.queries import PositionQueries
from perceiver_io.models.perceiver.tokens import Tokens
from perceiver_io.models.settings import (
    CrossAttendSettings,
    DecoderSettings,
    EncoderSettings,
    LatentStackSettings,
)
from perceiver_io.tasks.masked_lm import filling
from perceiver_io.tasks.predictor import Trained
from tests.helpers import oracles

MASK, NUM_RESERVED, LONGEST, VOCABULARY = 3, 6, 200, 40


def plain(function, shapes=None):
    """`function(ids, mask) -> logits` as a model; records the shapes for which it is traced."""

    def apply(params, state, rng, *, inputs, input_mask, is_training):
        assert rng is None and not is_training
        if shapes is not None:
            shapes.append(inputs.shape)
        return function(inputs, input_mask), state

    return Architecture(apply, apply, apply, apply)


def fill(model, ids, mask=None, params=None, top_k=2, **settings):
    ids = np.asarray(ids)
    mask = np.ones(ids.shape, bool) if mask is None else mask
    settings = dict(mask_id=MASK, num_reserved=NUM_RESERVED, longest=LONGEST) | settings
    return filling.fill(Trained(model, params, {}, {}), ids, mask, top_k=top_k, **settings)


def successors(ids, mask):
    """After a known id the next id is certain; after a masked one it is 39, less likely 38."""
    left = jnp.roll(ids, 1, axis=1)
    one_hot = jax.nn.one_hot
    sure = 9 * one_hot(left + 1, VOCABULARY)
    unsure = 2 * one_hot(jnp.full(ids.shape, 39), VOCABULARY) + one_hot(38, VOCABULARY)
    return jnp.where((left == MASK)[..., None], unsure, sure)


def test_probabilities_that_are_not_numbers_are_an_error():
    model = plain(lambda ids, mask: jnp.full((*ids.shape, VOCABULARY), jnp.nan))
    with pytest.raises(UserError, match="not finite"):
        fill(model, [[7, MASK]])


def test_one_step_fills_every_token_independently():
    done = []
    filled = fill(plain(successors), [[10, 3, 3, 3], [20, 21, 3, 30]], advance=done.append)
    assert filled.ids.tolist() == [[10, 11, 39, 39], [20, 21, 22, 30]]
    assert filled.ids.dtype == filled.top_ids.dtype == np.int32
    assert done == [4]


def test_step_by_step_the_most_certain_token_is_filled_first():
    done = []
    ids = [[10, 3, 3, 3], [20, 21, 3, 30]]
    filled = fill(plain(successors), ids, steps=5, advance=done.append)
    assert filled.ids.tolist() == [[10, 11, 12, 13], [20, 21, 22, 30]]
    assert done == [2, 1, 1]


def test_each_of_two_steps_fills_half():
    # Of four masked tokens, those after known ones are the most certain: 11 and 21 come first.
    filled = fill(plain(successors), [[10, 3, 3, 20, 3, 3]], steps=2)
    assert filled.ids.tolist() == [[10, 11, 12, 20, 21, 22]]


def test_candidates_are_those_of_the_step_that_filled_the_position():
    filled = fill(plain(successors), [[10, 3, 3, 7]], top_k=2)
    assert filled.top_ids[0, 1, 0] == 11
    assert filled.top_ids[0, 2].tolist() == [39, 38]
    exponentials = np.exp([2.0, 1.0])
    expected = exponentials / (exponentials.sum() + VOCABULARY - NUM_RESERVED - 2)
    np.testing.assert_allclose(filled.top_probabilities[0, 2], expected, rtol=1e-5)
    assert not filled.top_ids[0, [0, 3]].any() and not filled.top_probabilities[0, [0, 3]].any()
    stepwise = fill(plain(successors), [[10, 3, 3, 7]], top_k=2, steps=2)
    assert stepwise.top_ids[0, 1:3, 0].tolist() == [11, 12]
    assert stepwise.top_probabilities[0, 2, 0] > 0.9


def test_reserved_ids_are_never_filled_in():
    def reserved_first(ids, mask):
        return jnp.broadcast_to(-jnp.arange(VOCABULARY, dtype=jnp.float32), (*ids.shape, 40))

    filled = fill(plain(reserved_first), [[3, 3]], top_k=VOCABULARY - NUM_RESERVED)
    assert filled.ids.tolist() == [[6, 6]]
    assert filled.top_ids.min() == NUM_RESERVED
    np.testing.assert_allclose(filled.top_probabilities.sum(-1), 1, rtol=1e-5)


def test_padding_is_not_filled():
    mask = np.array([[True, True, False]])
    filled = fill(plain(successors), [[10, 3, 3]], mask)
    assert filled.ids.tolist() == [[10, 11, 3]]


def test_without_masked_tokens():
    shapes = []
    filled = fill(plain(successors, shapes), [[10, 20]])
    assert filled.ids.tolist() == [[10, 20]] and shapes == []


def test_few_programs_and_none_longer_than_the_model():
    shapes = []
    model = plain(successors, shapes)
    for length in (2, 100, 128, 129, 150, 200):
        filled = fill(model, [[*range(6, 6 + 1)] * (length - 1) + [3]])
        assert filled.ids.shape == (1, length) and filled.top_ids.shape == (1, length, 2)
        assert filled.ids[0, -1] == 7
    assert shapes == [(1, 128), (1, 200)]


def language_model(longest):
    """A small masked language model built from the project's modules."""

    def adapter(ids, mask, is_training):
        embedded = hk.Embed(VOCABULARY, 8, name="embed")(ids)
        positions = LearnedPositions((longest,), 8, name="input_positions")
        points = jnp.arange(ids.shape[1])[None]
        return Tokens(embedded + positions.at(points), mask=mask)

    class Queries:
        def __call__(self, tokens, query):
            points = jnp.arange(tokens.features.shape[1])[None]
            return PositionQueries(LearnedPositions((longest,), 8), (longest,))(tokens, points)

    def transformed():
        block = CrossAttendSettings(num_heads=2, use_query_residual=False)
        stack = LatentStackSettings(num_layers=1, num_heads=2)
        model = PerceiverIO(
            inputs=adapter,
            encoder=SingleReadEncoder(EncoderSettings(4, 8, stack, cross_attend=block)),
            queries=Queries(),
            decoder=Decoder(DecoderSettings(block)),
            outputs=PositionProjection(VOCABULARY),
        )
        return model, (model, model.encode, model.decode)

    init, functions = hk.multi_transform_with_state(transformed)
    return Architecture(lambda rng, **inputs: init(rng, **inputs, is_training=True), *functions)


def test_padding_changes_nothing_with_modules_of_the_project():
    model = language_model(LONGEST)
    ids = np.random.default_rng(0).integers(6, VOCABULARY, (2, 9))
    ids[:, [2, 7]] = MASK
    mask = np.arange(9) < [[9], [8]]
    params, state = oracles.random_params_and_state(model.init, inputs=ids, input_mask=mask)
    filled = filling.fill(
        Trained(model, params, state, {}),
        ids,
        mask,
        mask_id=MASK,
        num_reserved=NUM_RESERVED,
        longest=LONGEST,
        top_k=3,
    )
    apply = jax.jit(
        lambda x, mask: model.apply(
            params, state, None, inputs=x, input_mask=mask, is_training=False
        )
    )
    logits = np.asarray(apply(ids, mask)[0], np.float64)[..., NUM_RESERVED:]
    probabilities = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    expected = np.sort(probabilities, axis=-1)[..., :-4:-1][:, [2, 7]]
    np.testing.assert_allclose(filled.top_probabilities[:, [2, 7]], expected, atol=1e-5)
    best = probabilities.argmax(-1) + NUM_RESERVED
    np.testing.assert_array_equal(filled.ids, np.where(ids == MASK, best, ids))


@pytest.mark.parametrize(
    "ids,mask,settings,message",
    [
        (np.full((1, 201), 3), None, {}, "has 201 tokens, but the model takes at most 200"),
        ([[3, 3]], np.ones((1, 3), bool), {}, r"shape \(1, 2\) and a mask of shape \(1, 3\)"),
        ([3, 3], None, {}, r"both must be \(texts, tokens\)"),
        ([[3]], None, dict(top_k=35), "top_k=35 is more than the 34 ids"),
        ([[3]], None, dict(top_k=0), "top_k=0 must be at least 1"),
        ([[3]], None, dict(steps=0), "steps=0 must be at least 1"),
    ],
)
def test_errors(ids, mask, settings, message):
    with pytest.raises(UserError, match=message):
        fill(plain(successors), ids, mask, **settings)
