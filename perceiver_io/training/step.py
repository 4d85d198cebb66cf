"""One training step and one evaluation step; the same arithmetic for every parallel strategy."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PyTree

from perceiver_io.training.state import Params, TrainState

Batch = dict[str, Array]


class Gradients(NamedTuple):
    """What one pass over a batch gives; replicas are averaged entry by entry."""

    params: Params
    loss: Float[Array, ""]
    model_state: PyTree[Array]


@dataclasses.dataclass(frozen=True)
class TrainStep:
    """A training step in two halves, between which a strategy averages over replicas.

    Attributes:
        model: has `apply(params, state, rng, **inputs, is_training) -> (outputs, new state)`.
        task: has `model_inputs(batch)` and `loss(outputs, batch)`.
        optimizer: makes updates of gradients.
        schedule: the optimizer's learning rate, to be reported.
        seed: the step's randomness is `fold_in(key(seed), step)`.
        accumulate: number of microbatches that a batch is worked off in, for less memory.
        ema_decay: decay of the moving average of the parameters, if the state has one.
    """

    model: Any
    task: Any
    optimizer: optax.GradientTransformation
    schedule: optax.Schedule
    seed: int
    accumulate: int
    ema_decay: float | None

    def gradients(self, state: TrainState, batch: Batch, replica: int = 0) -> Gradients:
        """Loss and gradient, means over a batch; the model's state after it.

        Args:
            state: the training state.
            batch: arrays [B, ...], B divisible by `accumulate`.
            replica: keeps the randomness of replicas apart that hold different examples.
        """
        rng = jax.random.fold_in(jax.random.key(self.seed), state.step)
        keys = jax.random.split(jax.random.fold_in(rng, replica), self.accumulate)
        if self.accumulate == 1:
            return self._gradients(state.params, state.model_state, keys[0], batch)

        def add(carry: Gradients, inputs) -> tuple[Gradients, None]:
            one = self._gradients(state.params, carry.model_state, *inputs)
            params, loss = jax.tree.map(jnp.add, carry[:2], one[:2])
            return Gradients(params, loss, one.model_state), None

        zeros = jax.tree.map(jnp.zeros_like, state.params)
        start = Gradients(zeros, jnp.zeros(()), state.model_state)
        total, _ = jax.lax.scan(add, start, (keys, self._microbatches(batch)))
        params, loss = jax.tree.map(lambda x: x / self.accumulate, total[:2])
        return Gradients(params, loss, total.model_state)

    def update(self, state: TrainState, gradients: Gradients) -> tuple[TrainState, dict]:
        """The state after one step, and its loss, gradient and update norm and learning rate."""
        updates, opt_state = self.optimizer.update(gradients.params, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        ema_params = state.ema_params
        if ema_params is not None:
            ema_params = optax.incremental_update(params, ema_params, 1 - self.ema_decay)
        metrics = {
            "loss": gradients.loss,
            "gradient_norm": optax.global_norm(gradients.params),
            "update_norm": optax.global_norm(updates),
            "learning_rate": jnp.asarray(self.schedule(state.step), jnp.float32),
        }
        new = TrainState(state.step + 1, params, gradients.model_state, opt_state, ema_params)
        return new, metrics

    def _gradients(self, params: Params, model_state: PyTree, rng, batch: Batch) -> Gradients:
        def loss(params):
            outputs, new_state = self.model.apply(
                params, model_state, rng, **self.task.model_inputs(batch), is_training=True
            )
            return self.task.loss(outputs, batch), new_state

        (value, new_state), gradient = jax.value_and_grad(loss, has_aux=True)(params)
        return Gradients(gradient, value, new_state)

    def _microbatches(self, batch: Batch) -> Batch:
        """[B, ...] to [A, B/A, ...]; microbatch a holds the examples a, a + A, a + 2A ...

        Strided, because devices hold neighbouring examples: each keeps its own, and takes an
        equal share of every microbatch.
        """

        def split(x):
            return jnp.moveaxis(x.reshape(-1, self.accumulate, *x.shape[1:]), 1, 0)

        return jax.tree.map(split, batch)


class Evaluation(NamedTuple):
    """What the evaluation of one batch gives.

    Attributes:
        metrics: (sum, count) by name, over the whole batch.
        predictions: arrays [B, ...] by name, with `valid`, for the whole batch.
        outputs: the model's outputs [B, ...].
    """

    metrics: dict[str, tuple[Array, Array]]
    predictions: dict[str, Array]
    outputs: PyTree[Array]


@dataclasses.dataclass(frozen=True)
class EvaluationStep:
    """The model applied to one batch, without randomness, and what the task makes of it."""

    model: Any
    task: Any

    def __call__(self, params: Params, model_state: PyTree, batch: Batch) -> Evaluation:
        """Evaluates one batch, in which padding has `valid` False."""
        outputs, _ = self.model.apply(
            params, model_state, None, **self.task.model_inputs(batch), is_training=False
        )
        predictions = self.task.predictions(outputs, batch)
        return Evaluation(
            self.task.metrics(outputs, batch), predictions | {"valid": batch["valid"]}, outputs
        )
