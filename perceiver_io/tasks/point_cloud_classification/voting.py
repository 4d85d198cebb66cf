"""Evaluation with the mean of the probabilities for several augmented copies of each cloud."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from perceiver_io.data.points.clouds import AugmentedCopies
from perceiver_io.models.architectures import Architecture
from perceiver_io.tasks.evaluation import BatchEvaluator, Result, Strategy


@dataclasses.dataclass(frozen=True)
class VotingEvaluator:
    """Evaluates a split by the votes of copies, which are augmented as in training.

    Attributes:
        single: evaluates the clouds themselves.
        votes: the number of copies.
    """

    single: BatchEvaluator
    votes: int

    def metric_names(self, model: Architecture) -> list[str]:
        """Those of the clouds themselves."""
        return self.single.metric_names(model)

    def __call__(
        self, model: Architecture, params: PyTree, state: PyTree, strategy: Strategy
    ) -> Result:
        """Metrics and figures, see `Evaluator`; the loss is that of the mean probabilities."""
        dataset = self.single.dataset
        copies = AugmentedCopies(dataset.preparation, self.votes)
        dataset = dataclasses.replace(dataset, preparation=copies)
        at_once = max(self.single.batch_size // self.votes, 1)
        evaluator = dataclasses.replace(self.single, dataset=dataset, batch_size=at_once)
        return evaluator(_voting(model), params, state, strategy)


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
