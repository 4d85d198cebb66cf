"""The most probable classes of images."""

import functools
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, Int32, PyTree

from perceiver_io.errors import UserError
from perceiver_io.models.architectures import Architecture
from perceiver_io.tasks.batches import Advance, check_positive, each_in_batches, ignore


class TopClasses(NamedTuple):
    """The K most probable classes, the most probable one first, of an image or of several."""

    classes: Int32[np.ndarray, "*N K"]
    probabilities: Float[np.ndarray, "*N K"]


def classify(
    model: Architecture,
    params: PyTree,
    state: PyTree,
    images: Iterable[Float[np.ndarray, "H W C"]],
    *,
    top_k: int,
    batch_size: int,
    advance: Advance = ignore,
) -> Iterator[TopClasses]:
    """The `top_k` most probable classes of each image; images are taken in a batch at a time.

    Args:
        model: gives logits [B, classes] of `inputs` [B, H, W, C].
        params: its parameters.
        state: its state, such as the statistics of batch norm.
        images: an array [N, H, W, C], or images that come one by one; cropped and normalised as
            the model was trained; the evaluation batches of a dataset are.
        top_k: how many classes.
        batch_size: images at a time; the last batch is filled up.
        advance: told of each batch how many images it had.

    Raises UserError if there are fewer classes than `top_k`.
    """
    check_positive(top_k=top_k, batch_size=batch_size)
    top = functools.partial(_top, model, top_k, params, state)
    return each_in_batches(top, images, batch_size, advance)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _top(
    model: Architecture, top_k: int, params: PyTree, state: PyTree, images: Array
) -> TopClasses:
    logits, _ = model.apply(params, state, None, inputs=images, is_training=False)
    num_classes = logits.shape[-1]
    if top_k > num_classes:
        raise UserError(f"top_k={top_k} is more than the {num_classes} classes that there are.")
    probabilities, classes = jax.lax.top_k(jax.nn.softmax(logits), top_k)
    return TopClasses(classes, probabilities)
