"""Optimizers and learning-rate schedules, put together from optax parts.

Every optimizer is: clip the gradient, make a direction of it, add the weight decay, scale by the
learning rate. A schedule is a linear warm-up from 0 to `peak` and then a shape; all lengths are in
steps and are counted from the start of training.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

import jax
import optax
from jaxtyping import PyTree

from perceiver_io.config.construct import construct, lookup
from perceiver_io.training.state import map_names, num_stacked

_NOT_DECAYED = re.compile(r"(^|/)(b|scale|offset)$")
_POSITIONS = re.compile(r"(^|/)latents$|(positions|quer(y|ies)[^/]*)/embeddings$")


def build_optimizer(
    section: Mapping[str, Any], schedule: optax.Schedule
) -> optax.GradientTransformation:
    """The optimizer of `config.optimizer`. Raises UserError on a wrong name or keyword."""
    factory = lookup(OPTIMIZERS, section, "config.optimizer")
    return optax.chain(
        construct(factory, section, "config.optimizer"), optax.scale_by_learning_rate(schedule)
    )


def build_schedule(section: Mapping[str, Any]) -> optax.Schedule:
    """The schedule of `config.schedule`. Raises UserError on a wrong name or keyword."""
    shape = lookup(SCHEDULES, section, "config.schedule")
    return construct(shape, section, "config.schedule")


def lamb(
    *,
    weight_decay: float,
    clip_norm: float | None,
    decay_positions: bool,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-6,
) -> optax.GradientTransformation:
    """LAMB (You et al. 2019, arXiv:1904.00962, algorithm 2): Adam, rescaled layer by layer.

    Args:
        weight_decay: multiple of the parameters added to the direction.
        clip_norm: greatest global norm of the gradient; None does not clip.
        decay_positions: whether learned positions, latents and queries decay.
        b1: decay rate of the gradient's first moment.
        b2: decay rate of its second moment.
        eps: added to the root of the second moment.
    """
    return optax.chain(
        _clip(clip_norm),
        optax.scale_by_adam(b1=b1, b2=b2, eps=eps),
        _decay(weight_decay, decay_positions),
        scale_by_layer_trust_ratio(),
    )


def adamw(
    *,
    weight_decay: float,
    clip_norm: float | None,
    decay_positions: bool,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
) -> optax.GradientTransformation:
    """Adam with decoupled weight decay (Loshchilov and Hutter 2017, arXiv:1711.05101).

    The decay is multiplied by the learning rate. Arguments as for `lamb`.
    """
    return optax.chain(
        _clip(clip_norm),
        optax.scale_by_adam(b1=b1, b2=b2, eps=eps),
        _decay(weight_decay, decay_positions),
    )


def sgd(
    *, weight_decay: float, clip_norm: float | None, decay_positions: bool, momentum: float = 0.9
) -> optax.GradientTransformation:
    """Stochastic gradient descent with momentum; the decay enters the momentum, as an L2 penalty.

    Other arguments as for `lamb`.
    """
    return optax.chain(
        _clip(clip_norm), _decay(weight_decay, decay_positions), optax.trace(decay=momentum)
    )


OPTIMIZERS = {"lamb": lamb, "adamw": adamw, "sgd": sgd}


def constant(*, peak: float, warmup_steps: int) -> optax.Schedule:
    """`peak` for ever."""
    return _warm_up(peak, warmup_steps, optax.constant_schedule(peak))


def cosine(*, peak: float, warmup_steps: int, total_steps: int, end: float = 0.0) -> optax.Schedule:
    """Half a cosine from `peak` at the end of the warm-up down to `end` at `total_steps`."""
    return flat_then_cosine(
        peak=peak,
        warmup_steps=warmup_steps,
        flat_steps=warmup_steps,
        total_steps=total_steps,
        end=end,
    )


def flat_then_cosine(
    *, peak: float, warmup_steps: int, flat_steps: int, total_steps: int, end: float = 0.0
) -> optax.Schedule:
    """`peak` until step `flat_steps`, then half a cosine down to `end` at `total_steps`."""
    decay = optax.cosine_decay_schedule(peak, max(total_steps - flat_steps, 1), alpha=end / peak)
    flat = optax.constant_schedule(peak)
    return _warm_up(peak, warmup_steps, _after(flat_steps - warmup_steps, flat, decay))


def linear(*, peak: float, warmup_steps: int, total_steps: int, end: float = 0.0) -> optax.Schedule:
    """A straight line from `peak` at the end of the warm-up down to `end` at `total_steps`."""
    line = optax.linear_schedule(peak, end, max(total_steps - warmup_steps, 1))
    return _warm_up(peak, warmup_steps, line)


def steps(
    *, peak: float, warmup_steps: int, boundaries: tuple[int, ...], factor: float
) -> optax.Schedule:
    """`peak`, multiplied by `factor` at each of the `boundaries`."""
    drops = {boundary - warmup_steps: factor for boundary in boundaries}
    return _warm_up(peak, warmup_steps, optax.piecewise_constant_schedule(peak, drops))


SCHEDULES = {
    "constant": constant,
    "cosine": cosine,
    "flat_then_cosine": flat_then_cosine,
    "linear": linear,
    "steps": steps,
}


def decayed(name: str, *, positions: bool) -> bool:
    """Whether weight decay applies to a parameter, by its name.

    By name and not by number of axes, since a layer stack adds an axis to biases and norms, too.

    Args:
        name: Haiku's module and parameter name, joined by a slash.
        positions: whether learned positions, latents and queries decay.
    """
    if _NOT_DECAYED.search(name):
        return False
    return positions or not _POSITIONS.search(name)


def scale_by_layer_trust_ratio() -> optax.GradientTransformation:
    """`optax.scale_by_trust_ratio`, with a ratio for each layer of a stack.

    The parameters of a `layer_stack` share one array; each layer's slice counts as a parameter of
    its own, so that scanned layers train as layers written out do.
    """
    whole = optax.scale_by_trust_ratio()

    def update(updates: PyTree, state: optax.EmptyState, params: PyTree):
        def scale(name, update, param):
            def scale_one(update, param):
                return whole.update(update, state, param)[0]

            for _ in range(num_stacked(name)):
                scale_one = jax.vmap(scale_one)
            return scale_one(update, param)

        return map_names(scale, updates, params), state

    return optax.GradientTransformation(whole.init, update)


def _clip(norm: float | None) -> optax.GradientTransformation:
    return optax.identity() if norm is None else optax.clip_by_global_norm(norm)


def _decay(weight_decay: float, positions: bool) -> optax.GradientTransformation:
    def mask(params: PyTree) -> PyTree:
        return map_names(lambda name, _: decayed(name, positions=positions), params)

    return optax.add_decayed_weights(weight_decay, mask)


def _warm_up(peak: float, warmup_steps: int, after: optax.Schedule) -> optax.Schedule:
    return _after(warmup_steps, optax.linear_schedule(0.0, peak, max(warmup_steps, 1)), after)


def _after(num_steps: int, first: Callable, then: Callable) -> optax.Schedule:
    return optax.join_schedules([first, then], [num_steps])
