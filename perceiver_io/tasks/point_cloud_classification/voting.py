"""Evaluation with the mean of the probabilities for several augmented copies of each cloud."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from perceiver_io.data.points.clouds import AugmentedCopies
from perceiver_io.models.architectures import Architecture
from perceiver_io.tasks.evaluation import (
    BatchEvaluator,
    ChangedModelEvaluator,
    with_several_views,
)


def voting_evaluator(single: BatchEvaluator, votes: int) -> ChangedModelEvaluator:
    """Evaluates a split by the votes of copies, which are augmented as in training.

    The loss is that of the mean probabilities.

    Args:
        single: evaluates the clouds themselves.
        votes: the number of copies.
    """
    copies = AugmentedCopies(single.dataset.preparation, votes)
    return ChangedModelEvaluator(with_several_views(single, copies, votes), _voting)


@functools.lru_cache(maxsize=8)
def _voting(model: Architecture) -> Architecture:
    return dataclasses.replace(model, apply=functools.partial(voted, model))


def voted(
    model: Architecture,
    params: PyTree,
    state: PyTree,
    rng: Array | None,
    *,
    inputs: Float[Array, "B V N 3"],
    is_training: bool,
) -> tuple[Float[Array, "B K"], PyTree]:
    """The logarithms of a model's mean probabilities for V copies, and its state."""
    copies = inputs.reshape(-1, *inputs.shape[2:])
    logits, state = model.apply(params, state, rng, inputs=copies, is_training=is_training)
    logits = logits.reshape(*inputs.shape[:2], -1)
    log_mean = jax.nn.logsumexp(jax.nn.log_softmax(logits), axis=1) - jnp.log(inputs.shape[1])
    return log_mean, state
