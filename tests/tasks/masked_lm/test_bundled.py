"""The language model that comes with the package: `bundled:text`."""

import functools

import jax
import numpy as np
import pytest

import perceiver_io
from perceiver_io.models.architectures import build
from perceiver_io.runtime import configuration, setup, weights

pytestmark = pytest.mark.usefixtures("for_cpu")

CONFIG = configuration.load("configs/masked_lm.py:small", ())
# What frequencies predict, given the length of the word and the place in it: docs/masked_lm.md.
LENGTH_AND_PLACE = 2.640


@pytest.mark.slow
def test_it_is_the_model_of_its_config():
    loaded = weights.load("bundled:text")
    assert {**CONFIG.model.to_dict(), **loaded.model} == CONFIG.model.to_dict()
    files = list(weights.locate("bundled:text").iterdir())
    assert sum(file.stat().st_size for file in files) < 8e6


@pytest.mark.slow
def test_it_predicts_words_that_it_was_not_trained_on():
    loaded = weights.load("bundled:text")
    task = setup.build_task(CONFIG)
    dataset = setup.build_dataset(CONFIG, task)
    batch = next(
        iter(dataset.load("validation", batch_size=128, training=False, seed=0, shard=(0, 1)))
    )
    apply = jax.jit(functools.partial(build(loaded.model).apply, is_training=False))
    outputs, _ = apply(loaded.params, loaded.model_state, None, **task.model_inputs(batch))
    losses = task.losses(outputs, batch)["loss"][task.loss_masks(batch)["loss"]]
    assert len(losses) > 3000
    assert np.mean(losses) < LENGTH_AND_PLACE - 0.1


@pytest.mark.slow
def test_it_fills_in_a_text():
    model = perceiver_io.load("bundled:text")
    (filled,) = model.predict(["The Congress of [MASK:3] United States has passed the law."])
    assert filled.text == "The Congress of the United States has passed the law."
