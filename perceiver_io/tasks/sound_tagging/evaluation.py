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
from perceiver_io.tasks.evaluation import BatchEvaluator, Result, Strategy


@dataclasses.dataclass(frozen=True)
class StretchesEvaluator:
    """Evaluates a split by the mean of the probabilities for several stretches.

    Attributes:
        single: evaluates one stretch of each recording.
        count: how many.
    """

    single: BatchEvaluator
    count: int

    def metric_names(self, model: Architecture) -> list[str]:
        """Those of a single stretch."""
        return self.single.metric_names(model)

    def __call__(
        self, model: Architecture, params: PyTree, state: PyTree, strategy: Strategy
    ) -> Result:
        """Metrics and figures, see `Evaluator`; the loss is that of the mean probabilities."""
        dataset = self.single.dataset
        several = SpacedStretches(dataset.preparation, self.count)
        dataset = dataclasses.replace(dataset, preparation=several)
        at_once = max(self.single.batch_size // self.count, 1)
        evaluator = dataclasses.replace(self.single, dataset=dataset, batch_size=at_once)
        return evaluator(_averaging(model), params, state, strategy)


@dataclasses.dataclass(frozen=True)
class WithoutModality:
    """Evaluates a split with a modality hidden from the model.

    Attributes:
        single: evaluates with all modalities.
        name: of the one that is hidden.
    """

    single: BatchEvaluator
    name: str

    def metric_names(self, model: Architecture) -> list[str]:
        """Those with all modalities."""
        return self.single.metric_names(model)

    def __call__(
        self, model: Architecture, params: PyTree, state: PyTree, strategy: Strategy
    ) -> Result:
        """Metrics and figures, see `Evaluator`."""
        return self.single(_hiding(model, self.name), params, state, strategy)


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
