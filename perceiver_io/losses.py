"""A loss is a weighted sum of named terms, each a mean: L = sum over terms of weight * S / C.

S adds up the losses of the elements that a term covers (examples, pixels, tokens), C counts these
elements. A task states three things: `loss_weights`, a weight for each term; `loss_masks`, the
elements that each term covers, from the batch alone; and `losses`, what each element costs.
Masking, adding up and dividing are done here, so that they are the same for every task.

C does not depend on the parameters. So it is counted over the whole batch first; then the shares
S / C of the parts of a batch, and their gradients, add up to those of the whole batch, however it
is cut into microbatches, replicas and processes.
"""

import operator
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Shaped

from perceiver_io.errors import UserError

Values = Shaped[Array | np.ndarray, "..."]
Scalar = Float[Array, ""]


def masked_sum(values: Values, mask: Values) -> Scalar:
    """The sum of the values, each times its mask; where the mask is 0, a value may be anything.

    Raises ValueError if the shapes differ: the count would not be that of the values.
    """
    values, mask = jnp.asarray(values), jnp.asarray(mask)
    if values.shape != mask.shape:
        raise ValueError(f"Values of shape {values.shape} have a mask of shape {mask.shape}.")
    # `where`, not the product alone: what is not covered may be infinite.
    return jnp.where(mask != 0, values * mask, 0).sum(dtype=jnp.float32)


def count(mask: Values) -> Scalar:
    """The number of elements that a mask covers, or the sum of their weights."""
    # Booleans are counted in integers, which is exact beyond 2^24, where float32 is not.
    return jnp.asarray(mask).sum().astype(jnp.float32)


def sum_and_count(values: Values, mask: Values) -> tuple[Scalar, Scalar]:
    """Both, to be added to those of other batches and divided once."""
    return masked_sum(values, mask), count(mask)


def counts(task: Any, batch: Mapping[str, Values]) -> dict[str, Scalar]:
    """C of each term of a task's loss, over a batch."""
    return jax.tree.map(count, task.loss_masks(batch))


def sums_and_counts(
    task: Any, outputs: Any, batch: Mapping[str, Values]
) -> dict[str, tuple[Scalar, Scalar]]:
    """(S, C) of each term of a task's loss, over a batch."""
    return jax.tree.map(sum_and_count, task.losses(outputs, batch), task.loss_masks(batch))


def shares(
    task: Any, outputs: Any, part: Mapping[str, Values], counts: Mapping[str, Scalar]
) -> dict[str, Scalar]:
    """S / C of each term, S over a part of a batch and C over the whole; 0 where C is 0."""
    sums = jax.tree.map(masked_sum, task.losses(outputs, part), task.loss_masks(part))
    return jax.tree.map(lambda s, c: s / (c + (c == 0)), sums, dict(counts))


def total(weights: Mapping[str, float], means: Mapping[str, Any]) -> Any:
    """The loss: the sum of the terms' means S / C, each times its weight.

    Raises ValueError if the terms are not those that have weights.
    """
    return sum(jax.tree.leaves(jax.tree.map(operator.mul, dict(weights), dict(means))))


def batch_loss(task: Any, outputs: Any, batch: Mapping[str, Values]) -> Scalar:
    """The loss of a batch by itself."""
    return total(task.loss_weights, shares(task, outputs, batch, counts(task, batch)))


def measures(
    task: Any, outputs: Any, batch: Mapping[str, Values]
) -> dict[str, tuple[Scalar, Scalar]]:
    """(sum, count) by name over a batch: the terms of a task's loss, and its metrics."""
    return sums_and_counts(task, outputs, batch) | task.metrics(outputs, batch)


def means(
    totals: Mapping[str, np.ndarray], weights: Mapping[str, float], split: str
) -> dict[str, float]:
    """Metrics of a split, the loss among them, from the (sum, count) of each.

    Those that cover nothing are left out. The loss is the weighted sum of its terms, as in
    training; a term that covers nothing adds nothing.

    Args:
        totals: (sum, count) of the metrics and of the terms of the loss.
        weights: the weight of each term.
        split: the name of the split.

    Raises:
        UserError: if no term covers anything; then the split is empty, or has no truth.
    """
    found = {name: float(s / c) for name, (s, c) in totals.items() if c}
    if not found.keys() & weights.keys():
        raise UserError(
            f"The split {split!r} has nothing to evaluate: its metrics cover no example. Choose "
            "another split, or look whether the dataset is complete."
        )
    terms = {name: found.get(name, 0.0) for name in weights}
    return found | {"loss": total(weights, terms)}
