"""Evaluation is exact for uneven splits, any batch size and any strategy."""

import jax
import numpy as np
import optax
import pytest

from perceiver_io.errors import UserError
from perceiver_io.losses import means
from perceiver_io.tasks.evaluation import BatchEvaluator, EvaluationStep
from perceiver_io.training.parallel import Mesh, Pmap, make
from perceiver_io.training.state import initial_state
from perceiver_io.training.step import TrainStep
from tests.helpers import tiny

TASK = tiny.Task()


def evaluate(strategy, num_examples, batch_size, task=TASK, model=tiny.batch_norm):
    def initialise():
        return model.init(jax.random.key(0), inputs=np.zeros((1, tiny.WIDTH)))

    template = strategy.template(jax.eval_shape(initialise))
    params, state = strategy.adopt(make(initialise, template))
    dataset = tiny.Dataset(num_validation=num_examples)
    evaluator = BatchEvaluator(task, dataset, "validation", batch_size)
    return evaluator(model, params, state, strategy)


def expected(num_examples):
    arrays = tiny.examples("validation")
    batch = tiny.take(arrays, np.arange(num_examples), num_examples)
    params, state = tiny.batch_norm.init(jax.random.key(0), inputs=np.zeros((1, tiny.WIDTH)))
    sums, _, _ = EvaluationStep(tiny.batch_norm, TASK)(params, state, batch)
    return {name: float(total / count) for name, (total, count) in sums.items()}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make_strategy", "num_examples", "batch_size"),
    [
        (lambda: Mesh(fsdp=1), 37, 16),
        (lambda: Mesh(fsdp=2), 37, 7),
        (lambda: Mesh(fsdp=1), 1, 64),
        (Pmap, 37, 10),
    ],
)
def test_exact(make_strategy, num_examples, batch_size):
    result = evaluate(make_strategy(), num_examples, batch_size)
    for name, value in expected(num_examples).items():
        np.testing.assert_allclose(result.metrics[name], value, rtol=1e-5)
    # From `report`: every example was collected, but no padding.
    assert result.metrics["highest_index"] == num_examples - 1
    assert result.figures.keys() == {"empty", "examples"}


@pytest.mark.slow
@pytest.mark.parametrize("make_strategy", [lambda: Mesh(fsdp=1), Pmap])
def test_the_loss_equals_that_of_training(make_strategy):
    """With two terms, each divided by its own count over the whole split."""
    task, num_examples = tiny.TwoTerms(), 37
    batch = tiny.take(tiny.examples("validation"), np.arange(num_examples), num_examples)
    params, state = tiny.mlp.init(jax.random.key(0), inputs=batch["x"])
    optimizer, schedule = optax.sgd(0.1), optax.constant_schedule(0.1)
    step = TrainStep(tiny.mlp, task, optimizer, schedule, 0, accumulate=1, ema_decay=None)
    state = initial_state(params, state, optimizer, ema=False)
    _, training = step.update(state, step.gradients(state, batch))
    metrics = evaluate(make_strategy(), num_examples, 8, task, tiny.mlp).metrics
    for name in ("loss", *task.loss_weights):
        np.testing.assert_allclose(metrics[name], training[name], rtol=1e-5)


def test_a_term_that_covers_nothing_adds_nothing():
    totals = {"loss_a": np.array([3, 4]), "loss_b": np.zeros(2)}
    found = means(totals, {"loss_a": 2.0, "loss_b": 5.0}, "test")
    assert found == {"loss_a": 0.75, "loss": 1.5}


def test_an_empty_split():
    with pytest.raises(UserError, match="'validation' has nothing to evaluate"):
        evaluate(Mesh(fsdp=1), 0, 8)


def test_metrics_that_cover_nothing_are_left_out():
    totals = {"loss": np.array([3, 4]), "fast": np.zeros(2), "slow": np.array([0, 2])}
    assert means(totals, {"loss": 1.0}, "test") == {"loss": 0.75, "slow": 0.0}


def test_a_split_without_any_ground_truth():
    with pytest.raises(UserError, match="'test' has nothing to evaluate"):
        means({"loss": np.zeros(2), "fast": np.array([1, 2])}, {"loss": 1.0}, "test")


def test_evaluation_step_leaves_out_padding():
    arrays = tiny.examples("train")
    params, state = tiny.mlp.init(jax.random.key(0), inputs=np.zeros((1, tiny.WIDTH)))
    evaluate = EvaluationStep(tiny.mlp, TASK)
    full, _, _ = evaluate(params, state, tiny.take(arrays, np.arange(5), 5))
    padded, predictions, _ = evaluate(params, state, tiny.take(arrays, np.arange(5), 8))
    for name, (total, count) in full.items():
        np.testing.assert_allclose(padded[name][0], total, rtol=1e-6)
        assert padded[name][1] == count == 5
    np.testing.assert_array_equal(predictions["valid"], np.arange(8) < 5)
