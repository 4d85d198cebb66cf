"""One training step, with the same arithmetic under every parallel strategy."""

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PyTree

from perceiver_io import losses
from perceiver_io.training.state import Params, TrainState

Batch = dict[str, Array]
# One number per term of the loss, by name.
Terms = dict[str, Float[Array, ""]]


class Gradients(NamedTuple):
    """The result of one forward and backward pass over a batch or a part of it.

    Attributes:
        params: the gradient of the loss; the gradients of all parts add up to the batch's.
        terms: S / C of each term of the loss; these, too, add up over the parts.
        model_state: the model's state after the pass.
    """

    params: Params
    terms: Terms
    model_state: PyTree[Array]


@dataclasses.dataclass(frozen=True)
class TrainStep:
    """A training step in two halves, `gradients` and `update`.

    A strategy whose replicas each hold a part of the batch splits the first half into `counts` of
    the loss and `share` of the gradients, and sums each over the replicas.

    The loss and its gradient are those of the whole batch, however it is split into microbatches
    and replicas. Batch norm does depend on the split, since it normalises each part with that
    part's statistics, and so do the dropout masks that are drawn.

    Attributes:
        model: has `apply(params, state, rng, **inputs, is_training) -> (outputs, new state)`.
        task: has `augmented(batch)`, `model_inputs(batch)` and a loss as in `perceiver_io.losses`.
        optimizer: turns gradients into updates.
        schedule: the optimizer's learning rate, for the metrics.
        seed: the step's randomness is `fold_in(key(seed), step)`.
        accumulate: number of microbatches for gradient accumulation, which saves memory.
        ema_decay: decay of the moving average of the parameters, if the state has one. It averages
            the steps so far, without a bias towards the initial parameters.
    """

    model: Any
    task: Any
    optimizer: optax.GradientTransformation
    schedule: optax.Schedule
    seed: int
    accumulate: int
    ema_decay: float | None

    def gradients(self, state: TrainState, batch: Batch) -> Gradients:
        """Loss and gradient of a whole batch, and the model's new state.

        Args:
            state: the training state.
            batch: arrays [B, ...], B divisible by `accumulate`.
        """
        return self.share(state, batch, self.counts(batch))

    def counts(self, batch: Batch) -> Terms:
        """The number of elements that each term of the loss covers in a batch or a part of it."""
        return losses.counts(self.task, batch)

    def share(self, state: TrainState, part: Batch, counts: Terms, replica: int = 0) -> Gradients:
        """The contribution of a part of a batch to loss and gradient, and the model's new state.

        Args:
            state: the training state.
            part: the examples of a replica, arrays [B, ...], B divisible by `accumulate`.
            counts: the counts of the whole batch.
            replica: index of the replica, so that replicas draw different random numbers.
        """
        part = self.task.augmented(part)
        rng = jax.random.fold_in(jax.random.key(self.seed), state.step)
        keys = jax.random.split(jax.random.fold_in(rng, replica), self.accumulate)
        if self.accumulate == 1:
            return self._gradients(state.params, state.model_state, counts, keys[0], part)

        def add(carry: Gradients, inputs) -> tuple[Gradients, None]:
            one = self._gradients(state.params, carry.model_state, counts, *inputs)
            params, terms = jax.tree.map(jnp.add, carry[:2], one[:2])
            return Gradients(params, terms, one.model_state), None

        params, terms = jax.tree.map(jnp.zeros_like, (state.params, counts))
        start = Gradients(params, terms, state.model_state)
        total, _ = jax.lax.scan(add, start, (keys, self._microbatches(part)))
        return total

    def update(self, state: TrainState, gradients: Gradients) -> tuple[TrainState, dict]:
        """The state after one step, and its metrics.

        Args:
            state: the state before the step.
            gradients: the gradients of the whole batch.

        Returns:
            The new state; and as metrics the loss, the mean of each of its terms, the norms of
            gradient and update, and the learning rate.
        """
        updates, opt_state = self.optimizer.update(gradients.params, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        ema_params = state.ema_params
        if ema_params is not None and self.ema_decay is not None:
            weight = _weight_of_latest(self.ema_decay, state.step + 1)
            ema_params = optax.incremental_update(params, ema_params, weight)
        metrics = {
            **gradients.terms,
            "loss": losses.total(self.task.loss_weights, gradients.terms),
            "gradient_norm": optax.global_norm(gradients.params),
            "update_norm": optax.global_norm(updates),
            "learning_rate": jnp.asarray(self.schedule(state.step), jnp.float32),
        }
        new = TrainState(state.step + 1, params, gradients.model_state, opt_state, ema_params)
        return new, metrics

    def _gradients(
        self, params: Params, model_state: PyTree, counts: Terms, rng, batch: Batch
    ) -> Gradients:
        def loss(params):
            outputs, new_state = self.model.apply(
                params, model_state, rng, **self.task.model_inputs(batch), is_training=True
            )
            terms = losses.shares(self.task, outputs, batch, counts)
            return losses.total(self.task.loss_weights, terms), (terms, new_state)

        gradient, (terms, new_state) = jax.grad(loss, has_aux=True)(params)
        return Gradients(gradient, terms, new_state)

    def _microbatches(self, batch: Batch) -> Batch:
        """[B, ...] to [A, B/A, ...]; microbatch a holds the examples a, a + A, a + 2A ...

        Strided, because each device holds consecutive examples: these stay where they are, and
        every microbatch is spread evenly over the devices.
        """

        def split(x):
            return jnp.moveaxis(x.reshape(-1, self.accumulate, *x.shape[1:]), 1, 0)

        return jax.tree.map(split, batch)


def _weight_of_latest(decay: float, count: Int[Array, ""]) -> Float[Array, ""]:
    """The weight of the latest of `count` values in their exponential average.

    Going back in time, weights decrease by a factor of `decay` per value, and they sum to 1 (Kingma
    and Ba 2014, arXiv:1412.6980, section 3). For a single value the weight is 1.
    """
    log_decay = math.log(decay) if decay else -math.inf
    return (1 - decay) / -jnp.expm1(count * log_decay)
