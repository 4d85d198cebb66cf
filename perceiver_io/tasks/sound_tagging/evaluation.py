"""Evaluation by several stretches of each recording, and without a modality."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from perceiver_io.data.sound.tagged import SpacedStretches
from perceiver_io.models.architectures import Architecture
from perceiver_io.tasks.evaluation import (
    BatchEvaluator,
    ChangedModelEvaluator,
    with_several_views,
)


def stretches_evaluator(single: BatchEvaluator, count: int) -> ChangedModelEvaluator:
    """Evaluates a split by the mean of the probabilities for several stretches.

    The loss is that of the mean probabilities.

    Args:
        single: evaluates one stretch of each recording.
        count: how many.
    """
    several = SpacedStretches(single.dataset.preparation, count)
    return ChangedModelEvaluator(with_several_views(single, several, count), _averaging)


def without_modality(single: BatchEvaluator, name: str) -> ChangedModelEvaluator:
    """Evaluates a split with a modality hidden from the model.

    Args:
        single: evaluates with all modalities.
        name: of the one that is hidden.
    """
    return ChangedModelEvaluator(single, functools.partial(_hiding, name=name))


@functools.lru_cache(maxsize=8)
def _averaging(model: Architecture) -> Architecture:
    return dataclasses.replace(model, apply=functools.partial(averaged, model))


@functools.lru_cache(maxsize=8)
def _hiding(model: Architecture, name: str) -> Architecture:
    return dataclasses.replace(model, apply=functools.partial(_hidden, model, name))


def averaged(
    model: Architecture,
    params: PyTree,
    state: PyTree,
    rng: Array | None,
    *,
    inputs: PyTree[Array],
    is_training: bool,
) -> tuple[Float[Array, "B K"], PyTree]:
    """The logits of a model's mean probabilities for several stretches, and its state.

    Inputs are those of the model with an axis for the stretches after that of the examples.
    """
    batch, count = jax.tree.leaves(inputs)[0].shape[:2]
    stretches = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), inputs)
    logits, state = model.apply(params, state, rng, inputs=stretches, is_training=is_training)
    logits = logits.reshape(batch, count, -1)
    # The mean's odds; the number of stretches cancels out.
    of_tag, of_none = (jax.nn.logsumexp(jax.nn.log_sigmoid(x), axis=1) for x in (logits, -logits))
    return of_tag - of_none, state


def _hidden(
    model: Architecture,
    name: str,
    params: PyTree,
    state: PyTree,
    rng: Array | None,
    *,
    inputs: Mapping[str, Any],
    is_training: bool,
) -> tuple[Float[Array, "B K"], PyTree]:
    present = dict(inputs["present"])
    present[name] = jnp.zeros_like(present[name])
    inputs = {**inputs, "present": present}
    return model.apply(params, state, rng, inputs=inputs, is_training=is_training)
