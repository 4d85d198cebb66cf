"""The most probable classes of examples: computed, as arrays, and as the report of a program."""

import functools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, Int32, PyTree, Real

from perceiver_io.errors import UserError
from perceiver_io.models.architectures import Architecture
from perceiver_io.tasks.batches import (
    Advance,
    check_batch_size,
    check_finite,
    check_positive,
    each_in_batches,
    ignore,
)
from perceiver_io.tasks.predictor import Report, Trained


class TopClasses(NamedTuple):
    """The K most probable classes of an example or several, in descending order of probability."""

    classes: Int32[np.ndarray, "*N K"]
    probabilities: Float[np.ndarray, "*N K"]


def classify(
    trained: Trained,
    examples: Iterable[Real[np.ndarray, "..."]],
    *,
    top_k: int,
    batch_size: int,
    advance: Advance = ignore,
) -> Iterator[TopClasses]:
    """The `top_k` most probable classes of each example, which are read one batch at a time.

    Args:
        trained: its model maps `inputs` [B, ...] to logits [B, classes].
        examples: an array [N, ...] or an iterable of arrays, prepared for the model as in the
            evaluation batches of its dataset.
        top_k: how many classes.
        batch_size: examples at a time; the last batch is padded.
        advance: called after each batch with the number of its examples.

    Raises UserError if there are fewer classes than `top_k`, and for probabilities that are NaN.
    """
    check_positive(top_k=top_k)
    check_batch_size(batch_size)
    top = functools.partial(_top, trained.model, top_k, trained.params, trained.state)
    for answer in each_in_batches(top, examples, batch_size, advance):
        check_finite(answer.probabilities)
        yield answer


@functools.partial(jax.jit, static_argnums=(0, 1))
def _top(
    model: Architecture, top_k: int, params: PyTree, state: PyTree, examples: Array
) -> TopClasses:
    logits, _ = model.apply(params, state, None, inputs=examples, is_training=False)
    num_classes = logits.shape[-1]
    if top_k > num_classes:
        raise UserError(f"top_k={top_k} is more than the number of classes, {num_classes}.")
    probabilities, classes = jax.lax.top_k(jax.nn.softmax(logits), top_k)
    return TopClasses(classes, probabilities)


def arrays(found: Iterable[TopClasses], count: int) -> TopClasses:
    """The classes of several examples, `count` each, as arrays [N, count]."""
    rows = list(found)
    classes, probabilities = zip(*rows, strict=True) if rows else ((), ())
    return TopClasses(
        np.array(classes, np.int32).reshape(-1, count),
        np.array(probabilities, np.float32).reshape(-1, count),
    )


def entries(top: TopClasses, class_names: Sequence[str]) -> list[dict[str, Any]]:
    """The classes of one example, each with its index, name and probability."""
    return [
        dict(index=int(index), name=class_names[index], probability=float(probability))
        for index, probability in zip(*top, strict=True)
    ]


def report(
    answers: list[dict[str, Any]], unreadable: list[str], pictures: int, kind: str
) -> Report:
    """The answers for files, and the names of those that could not be read.

    Args:
        answers: each with `input`, the file's name, and `classes`, the `entries`.
        unreadable: names of files.
        pictures: how many of the answers were drawn.
        kind: what the files are, such as "images".

    Raises UserError if no file could be read.
    """
    if not answers:
        raise UserError(
            f"None of the {len(unreadable)} {kind} can be read, such as {unreadable[0]}: they are "
            f"damaged or not {kind}. For details of the error, give one of them by itself."
        )
    paragraphs = list(map(_table, answers))
    if len(answers) > pictures:
        paragraphs.append(
            f"figures of the first {pictures} of {len(answers)} {kind}; --pictures=NUMBER for more"
        )
    if unreadable:
        count = len(answers) + len(unreadable)
        paragraphs.append(
            f"warning: skipped {len(unreadable)} of {count} {kind}, which cannot be read: "
            f"{', '.join(unreadable)}"
        )
    return Report("\n\n".join(paragraphs), {kind: answers, "unreadable": unreadable})


def _table(answer: dict[str, Any]) -> str:
    lines = [f"  {entry['probability']:6.1%}  {entry['name']}" for entry in answer["classes"]]
    return "\n".join([answer["input"], *lines])
