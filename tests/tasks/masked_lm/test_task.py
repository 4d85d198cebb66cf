"""Loss, metrics and figure of masked language modelling."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_io import losses
from perceiver_io.data.text.bytes import ByteTokenizer
from perceiver_io.data.text.text_folder import bundled_text
from perceiver_io.errors import UserError
from perceiver_io.models.architectures import build
from perceiver_io.tasks.masked_lm.figures import FilledTokens, _lines_of
from perceiver_io.tasks.masked_lm.task import MaskedLanguageModelling, _filled
from tests.helpers import oracles
from tests.helpers.predictions import LANGUAGE

pytestmark = pytest.mark.usefixtures("for_cpu")

TASK = MaskedLanguageModelling(262)


def masked(batch_size=2):
    dataset = bundled_text(
        tokenizer=ByteTokenizer(), max_length=64, max_queries=32, passage_bytes=64, mask_rate=0.3
    )
    return dataset, next(
        iter(dataset.load("test", batch_size=batch_size, training=False, seed=0, shard=(0, 1)))
    )


def test_loss_and_metrics():
    rng = np.random.default_rng(0)
    batch = {
        "query_mask": np.array([[True, True, False], [True, False, False], [True, True, True]]),
        "target": np.array([[3, 4, 0], [2, 0, 0], [1, 1, 1]], np.int32),
        "target_bytes": np.array([[1, 5, 0], [2, 0, 0], [9, 9, 9]], np.int32),
        "valid": np.array([True, True, False]),
    }
    logits = rng.normal(size=(3, 3, 5)).astype(np.float32)
    logits[0, 1, 4] = 9  # right
    logits[1, 0, 0] = 9  # wrong
    logits[0, 0, 1] = 9  # wrong
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    nats = -np.log([p[0, 0, 3], p[0, 1, 4], p[1, 0, 2]]).sum()
    found = losses.measures(MaskedLanguageModelling(5), jnp.asarray(logits), batch)
    oracles.assert_close(np.float32(found["loss"]), np.float32([nats, 3]))
    oracles.assert_close(np.float32(found["masked_accuracy"]), np.float32([1, 3]))
    oracles.assert_close(np.float32(found["bits_per_byte"]), np.float32([nats / np.log(2), 8]))


@pytest.mark.slow
def test_queries_are_decoded_alone():
    _, batch = masked(2)
    model = build(LANGUAGE)
    params, state = oracles.random_params_and_state(model.init, **model.input_spec)
    inputs = TASK.model_inputs(batch)
    apply = jax.jit(functools.partial(model.apply, is_training=False))
    some, _ = apply(params, state, None, **inputs)
    del inputs["query"]
    whole, _ = apply(params, state, None, **inputs)
    expected = np.take_along_axis(np.asarray(whole), batch["query"][..., None], axis=1)
    assert some.shape == (2, 32, 262) and (batch["query"][0] != batch["query"][1]).any()
    oracles.assert_close(some, expected)


def test_other_vocabularies_are_refused():
    dataset, batch = masked(1)
    with pytest.raises(UserError, match="tokenizer has 262 ids, but .*vocabulary_size is 300"):
        MaskedLanguageModelling(300).check_dataset(dataset)
    TASK.check_dataset(dataset)
    with pytest.raises(UserError, match="model has 300 token ids, .* is 262"):
        TASK.losses(jnp.zeros((1, 32, 300)), batch)


def test_filled_texts_and_their_figure():
    dataset, batch = masked(3)
    logits = np.random.default_rng(0).normal(size=(3, 32, 262)).astype(np.float32)
    rows = np.arange(3)[:, None], np.arange(32)
    logits[(*rows, batch["target"])] += 20
    tokenizer = dataset.preparation.tokenizer
    filled = _filled({name: array[0] for name, array in batch.items()}, logits[0], tokenizer)
    assert filled.filled == filled.true and "".join(filled.true).isascii()
    count = batch["query_mask"][0].sum()
    assert np.isfinite(filled.certainty).sum() == count > 0
    assert np.nanmin(filled.certainty) > 0.99
    figure = TASK.figure(logits, batch, dataset)
    texts = [x.get_text() for x in figure.axes[0].texts]
    assert sum(len(x) == 1 for x in texts) >= count


def test_characters_of_several_bytes_are_shown_whole():
    tokenizer = ByteTokenizer()
    ids = tokenizer.encode("né ☃".encode() + b"\xff.")
    example = {
        "text": ids,
        "text_mask": np.ones(len(ids), bool),
        "query": np.array([0]),
        "query_mask": np.array([False]),
        "target": np.array([0]),
    }
    shown = _filled(example, np.zeros((1, 262), np.float32), tokenizer).true
    assert shown == ["n", "", "é", " ", "", "", "☃", "\N{REPLACEMENT CHARACTER}", "."]


def test_lines_of_a_figure_are_short():
    many = FilledTokens(["word "] * 500, ["words "] * 500, np.zeros(500))
    lines = _lines_of(many)
    assert len(lines) == 6 and {len(line) for line in lines} == {16}
    assert [column for _, column in lines[1]] == list(range(0, 96, 6))
