"""Optimizers and learning-rate schedules, composed of optax transformations.

Every optimizer clips the gradient, turns it into a direction, adds weight decay and scales by the
learning rate. A schedule is a linear warm-up from 0 to `peak`, followed by a particular shape; all
lengths are in steps from the start of training.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import optax
from jaxtyping import PyTree

from perceiver_io.config.annotations import Count, Natural, NonNegative, Positive, Rate
from perceiver_io.config.construct import construct, lookup
from perceiver_io.roles import Role
from perceiver_io.training.state import map_names, num_stacked

Roles = Mapping[str, Role]


def build_optimizer(
    section: Mapping[str, Any], schedule: optax.Schedule, roles: Roles
) -> optax.GradientTransformation:
    """The optimizer of `config.optimizer`.

    Args:
        section: the config section.
        schedule: the learning rate.
        roles: by name, MODULE/NAME, the roles of parameters exempt from weight decay: biases and
            the scales and offsets of norms (`bias_or_norm`); learned positions, latents and queries
            (`position`), unless the section's `decay_positions` is set.

    Raises UserError for an invalid name or setting.
    """
    factory = lookup(OPTIMIZERS, section, "config.optimizer")
    direction = construct(factory, section, "config.optimizer", roles)
    return optax.chain(direction, optax.scale_by_learning_rate(schedule))


def build_schedule(section: Mapping[str, Any]) -> optax.Schedule:
    """The schedule of `config.schedule`. Raises UserError for an invalid name or setting."""
    shape = lookup(SCHEDULES, section, "config.schedule")
    return construct(shape, section, "config.schedule")


def lamb(
    roles: Roles,
    /,
    *,
    weight_decay: NonNegative,
    clip_norm: Positive | None = 10.0,
    decay_positions: bool = True,
    b1: Rate = 0.9,
    b2: Rate = 0.999,
    eps: Positive = 1e-6,
) -> optax.GradientTransformation:
    """LAMB (You et al. 2019, arXiv:1904.00962, algorithm 2): Adam with layer-wise rescaling.

    Args:
        roles: as in `build_optimizer`.
        weight_decay: multiple of the parameters added to the direction.
        clip_norm: maximum global norm of the gradient; None turns clipping off.
        decay_positions: whether weight decay applies to learned positions, latents and queries.
        b1: decay rate of the gradient's first moment.
        b2: decay rate of its second moment.
        eps: added to the square root of the second moment.
    """
    return optax.chain(
        _clip(clip_norm),
        optax.scale_by_adam(b1=b1, b2=b2, eps=eps),
        _decay(weight_decay, roles, decay_positions),
        scale_by_layer_trust_ratio(),
    )


def adamw(
    roles: Roles,
    /,
    *,
    weight_decay: NonNegative,
    clip_norm: Positive | None = 1.0,
    decay_positions: bool = False,
    b1: Rate = 0.9,
    b2: Rate = 0.999,
    eps: Positive = 1e-8,
) -> optax.GradientTransformation:
    """Adam with decoupled weight decay (Loshchilov and Hutter 2017, arXiv:1711.05101).

    The decay is multiplied by the learning rate. Arguments are as for `lamb`.
    """
    return optax.chain(
        _clip(clip_norm),
        optax.scale_by_adam(b1=b1, b2=b2, eps=eps),
        _decay(weight_decay, roles, decay_positions),
    )


def sgd(
    roles: Roles,
    /,
    *,
    weight_decay: NonNegative,
    clip_norm: Positive | None = 1.0,
    decay_positions: bool = False,
    momentum: Rate = 0.9,
) -> optax.GradientTransformation:
    """Stochastic gradient descent with momentum; weight decay acts as an L2 penalty.

    Other arguments are as for `lamb`.
    """
    return optax.chain(
        _clip(clip_norm),
        _decay(weight_decay, roles, decay_positions),
        optax.trace(decay=momentum),
    )


OPTIMIZERS = {"lamb": lamb, "adamw": adamw, "sgd": sgd}


def constant(*, peak: Positive, warmup_steps: Natural = 0) -> optax.Schedule:
    """Constant at `peak`."""
    return _warm_up(peak, warmup_steps, optax.constant_schedule(peak))


def cosine(
    *, peak: Positive, total_steps: Count, warmup_steps: Natural = 0, end: NonNegative = 0.0
) -> optax.Schedule:
    """Cosine decay from `peak` at the end of the warm-up to `end` at `total_steps`."""
    return flat_then_cosine(
        peak=peak,
        warmup_steps=warmup_steps,
        flat_steps=warmup_steps,
        total_steps=total_steps,
        end=end,
    )


def flat_then_cosine(
    *,
    peak: Positive,
    warmup_steps: Natural = 0,
    flat_steps: Natural,
    total_steps: Count,
    end: NonNegative = 0.0,
) -> optax.Schedule:
    """`peak` until step `flat_steps`, then cosine decay to `end` at `total_steps`."""
    decay = optax.cosine_decay_schedule(peak, max(total_steps - flat_steps, 1), alpha=end / peak)
    flat = optax.constant_schedule(peak)
    return _warm_up(peak, warmup_steps, _after(flat_steps - warmup_steps, flat, decay))


def linear(
    *, peak: Positive, total_steps: Count, warmup_steps: Natural = 0, end: NonNegative = 0.0
) -> optax.Schedule:
    """Linear decay from `peak` at the end of the warm-up to `end` at `total_steps`."""
    line = optax.linear_schedule(peak, end, max(total_steps - warmup_steps, 1))
    return _warm_up(peak, warmup_steps, line)


def steps(
    *, peak: Positive, warmup_steps: Natural = 0, boundaries: tuple[Natural, ...], factor: Positive
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


def decay_mask(params: PyTree, roles: Roles, *, positions: bool) -> PyTree[bool]:
    """Whether weight decay applies to each parameter.

    Args:
        params: the parameters.
        roles: as in `build_optimizer`.
        positions: whether weight decay applies to learned positions, latents and queries.
    """
    exempt = {"bias_or_norm"} if positions else {"bias_or_norm", "position"}
    return map_names(lambda name, _: roles.get(name) not in exempt, params)


def scale_by_layer_trust_ratio() -> optax.GradientTransformation:
    """`optax.scale_by_trust_ratio` with a separate ratio for each layer of a stack.

    The layers of a `layer_stack` share one array per parameter; each layer's slice is treated as a
    parameter of its own, so that scanned layers train exactly as unrolled ones.
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


def _decay(weight_decay: float, roles: Roles, positions: bool) -> optax.GradientTransformation:
    mask = functools.partial(decay_mask, roles=roles, positions=positions)
    return optax.add_decayed_weights(weight_decay, mask)


def _warm_up(peak: float, warmup_steps: int, after: optax.Schedule) -> optax.Schedule:
    return _after(warmup_steps, optax.linear_schedule(0.0, peak, max(warmup_steps, 1)), after)


def _after(num_steps: int, first: Callable, then: Callable) -> optax.Schedule:
    return optax.join_schedules([first, then], [num_steps])
