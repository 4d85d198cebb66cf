"""A loss is a weighted sum of named terms, each a mean: L = sum over terms of weight * S / C.

S sums the losses of the elements that a term covers (examples, pixels, tokens), C counts these
elements. A task defines three things: `loss_weights`, a weight for each term; `loss_masks`, the
elements that each term covers, computed from the batch alone; and `losses`, the loss of each
element. Masking, summing and dividing happen here, so that they are the same for every task.

C does not depend on the parameters, and so is counted over the whole batch first. Then the shares
S / C of the parts of a batch, and their gradients, add up to those of the whole batch, however it
is split into microbatches, replicas and processes.
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
    """The sum of values times mask; where the mask is 0, values may be anything, even NaN.

    Raises ValueError if the shapes differ, since the mask's count would not fit the values.
    """
    values, mask = jnp.asarray(values), jnp.asarray(mask)
    if values.shape != mask.shape:
        raise ValueError(f"Values of shape {values.shape} have a mask of shape {mask.shape}.")
    # `where`, not the product alone: values that are masked out may be infinite.
    return jnp.where(mask != 0, values * mask, 0).sum(dtype=jnp.float32)


def count(mask: Values) -> Scalar:
    """The number of elements that a mask covers, or the sum of their weights."""
    # Booleans are summed as integers, which are exact beyond 2^24, unlike float32.
    return jnp.asarray(mask).sum().astype(jnp.float32)


def sum_and_count(values: Values, mask: Values) -> tuple[Scalar, Scalar]:
    """`masked_sum` and `count`, to be added over batches and divided once."""
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
    """S / C of each term, with S over a part of a batch and C over all of it; 0 where C is 0."""
    sums = jax.tree.map(masked_sum, task.losses(outputs, part), task.loss_masks(part))
    return jax.tree.map(lambda s, c: s / (c + (c == 0)), sums, dict(counts))


def total(weights: Mapping[str, float], means: Mapping[str, Any]) -> Any:
    """The loss: the weighted sum of the terms' means S / C.

    Raises ValueError if `means` and `weights` do not have the same terms.
    """
    return sum(jax.tree.leaves(jax.tree.map(operator.mul, dict(weights), dict(means))))


def batch_loss(task: Any, outputs: Any, batch: Mapping[str, Values]) -> Scalar:
    """The loss of a single batch."""
    return total(task.loss_weights, shares(task, outputs, batch, counts(task, batch)))


def measures(
    task: Any, outputs: Any, batch: Mapping[str, Values]
) -> dict[str, tuple[Scalar, Scalar]]:
    """(sum, count) over a batch of each term of a task's loss and of each metric, by name."""
    return sums_and_counts(task, outputs, batch) | task.metrics(outputs, batch)


def means(
    totals: Mapping[str, np.ndarray], weights: Mapping[str, float], split: str
) -> dict[str, float]:
    """Metrics of a split, including the loss, from the (sum, count) of each.

    Metrics with a count of 0 are omitted. The loss is the weighted sum of its terms, as in
    training; terms with a count of 0 contribute nothing.

    Args:
        totals: (sum, count) of the metrics and of the terms of the loss.
        weights: the weight of each term.
        split: the name of the split.

    Raises:
        UserError: if all terms have a count of 0: the split is empty, or has no ground truth.
    """
    found = {name: float(s / c) for name, (s, c) in totals.items() if c}
    if not found.keys() & weights.keys():
        raise UserError(
            f"The split {split!r} has nothing to evaluate: its metrics cover no example. Choose "
            "another split, or check that the dataset is complete."
        )
    terms = {name: found.get(name, 0.0) for name in weights}
    return found | {"loss": total(weights, terms)}
