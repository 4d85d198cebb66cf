"""One training step against its definition."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from perceiver_io.training.state import TrainState, initial_state
from perceiver_io.training.step import TrainStep
from tests.helpers import tiny

RATE = 0.1


def setting(model=tiny.mlp, accumulate=1, ema_decay=None):
    optimizer = optax.sgd(RATE)
    schedule = optax.constant_schedule(RATE)
    batch = tiny.take(tiny.examples("train"), np.arange(16), 16)

    @jax.jit
    def initialise():
        variables = model.init(jax.random.key(0), inputs=batch["x"])
        return initial_state(*variables, optimizer, ema=ema_decay is not None)

    step = TrainStep(model, tiny.Task(), optimizer, schedule, 0, accumulate, ema_decay)
    return step, initialise(), batch


def train(step, state, batch, num_steps=1):
    compiled = jax.jit(lambda s, b: step.update(s, step.gradients(s, b)))
    for _ in range(num_steps):
        state, metrics = compiled(state, batch)
    return state, metrics


def norm(tree):
    return np.sqrt(sum(np.sum(np.square(leaf)) for leaf in jax.tree.leaves(tree)))


def test_one_step_is_gradient_descent():
    step, state, batch = setting()

    def loss(params):
        logits, _ = tiny.mlp.apply(params, {}, None, inputs=batch["x"], is_training=True)
        return -jnp.mean(jax.nn.log_softmax(logits)[jnp.arange(16), batch["y"]])

    value, gradient = jax.jit(jax.value_and_grad(loss))(state.params)
    new, metrics = train(step, state, batch)
    expected = jax.tree.map(lambda p, g: p - RATE * g, state.params, gradient)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), new.params, expected)
    assert new.step == 1 and new.ema_params is None
    np.testing.assert_allclose(metrics["loss"], value, rtol=1e-6)
    np.testing.assert_allclose(metrics["gradient_norm"], norm(gradient), rtol=1e-5)
    np.testing.assert_allclose(metrics["update_norm"], RATE * norm(gradient), rtol=1e-5)
    np.testing.assert_allclose(metrics["learning_rate"], RATE)


@pytest.mark.parametrize("accumulate", [2, 8])
def test_gradient_accumulation_equals_the_full_batch(accumulate):
    step, state, batch = setting()
    full, full_metrics = train(step, state, batch, 5)
    step, state, batch = setting(accumulate=accumulate)
    parts, metrics = train(step, state, batch, 5)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
        (full.params, full_metrics),
        (parts.params, metrics),
    )


def test_gradient_accumulation_updates_batch_statistics():
    """The running mean is updated by one microbatch after the other, each a stride of the batch."""
    step, state, batch = setting(tiny.batch_norm, accumulate=2)
    new, _ = train(step, state, batch)
    model_state = state.model_state
    apply = jax.jit(functools.partial(tiny.batch_norm.apply, is_training=True))
    for first in (0, 1):
        _, model_state = apply(state.params, model_state, None, inputs=batch["x"][first::2])
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7),
        new.model_state,
        model_state,
    )


def test_moving_average():
    step, state, batch = setting(ema_decay=0.7)
    params = []
    for _ in range(4):
        state, _ = train(step, state, batch)
        params.append(jax.device_get(state.params))
    weights = 0.7 ** np.arange(4)[::-1]  # the latest has the largest weight, the initial state none
    expected = jax.tree.map(lambda *x: np.average(x, 0, weights), *params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), state[4], expected)
    assert state.evaluated_params is state.ema_params


@pytest.mark.slow
def test_randomness_depends_on_step_and_replica():
    step, state, batch = setting(tiny.stacked)

    @jax.jit
    def gradient(number, replica):
        at = TrainState(number, *state[1:])
        return jax.tree.leaves(step.share(at, batch, step.counts(batch), replica).params)

    def same(a, b):
        return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))

    assert same(gradient(3, 0), gradient(3, 0))
    assert not same(gradient(3, 0), gradient(4, 0))
    assert not same(gradient(3, 0), gradient(3, 1))
