"""Fills in the masked tokens of texts with a masked language model."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int32, PyTree

from perceiver_io.errors import UserError
from perceiver_io.models.architectures import Architecture
from perceiver_io.tasks.batches import Advance, check_finite, check_positive, ignore
from perceiver_io.tasks.predictor import Trained

# A program is compiled for each length; texts are padded to multiples of this length.
_LENGTH_STEP = 128


class Filled(NamedTuple):
    """Texts with their masked tokens filled in, and the model's candidates for these.

    Attributes:
        ids: the texts.
        top_ids: the K most probable ids of each masked position, in descending order, at the time
            when the position was filled; zeros at all other positions.
        top_probabilities: their probabilities; zeros at all other positions.
    """

    ids: Int32[np.ndarray, "B M"]
    top_ids: Int32[np.ndarray, "B M K"]
    top_probabilities: Float[np.ndarray, "B M K"]


def fill(
    trained: Trained,
    ids: Int32[np.ndarray, "B M"],
    input_mask: Bool[np.ndarray, "B M"],
    *,
    mask_id: int,
    num_reserved: int,
    longest: int,
    top_k: int,
    steps: int = 1,
    advance: Advance = ignore,
) -> Filled:
    """Replaces every `mask_id` by the model's most probable id.

    With one step, all masked tokens are filled in at once, each without knowing the others. With
    several, each step fills in an equal share of every text's masked tokens, those of which the
    model is most certain, and the next step reads them; with as many steps as tokens, they are
    filled in one by one.

    Args:
        trained: its model maps `inputs` [B, M] and their `input_mask` to logits [B, M, vocabulary].
        ids: the texts.
        input_mask: False for padding.
        mask_id: the id of a masked token.
        num_reserved: ids below this one are never filled in; probabilities are normalised over the
            others.
        longest: most tokens that the model takes.
        top_k: number of candidates to report for each position.
        steps: number of times that the model is applied.
        advance: called after each step with the number of tokens that it filled in.

    Raises UserError for texts longer than `longest`, a mask of another shape, fewer ids than
    `top_k`, and probabilities that are NaN.
    """
    check_positive(top_k=top_k, steps=steps)
    ids, input_mask = np.array(ids, np.int32), np.asarray(input_mask, bool)
    _check_shapes(ids, input_mask, longest)
    length = ids.shape[1]
    ids, input_mask = filled_up(ids, input_mask, longest)
    top_ids = np.zeros((*ids.shape, top_k), np.int32)
    top_probabilities = np.zeros(top_ids.shape, np.float32)
    for steps_left in range(steps, 0, -1):
        unknown = (ids == mask_id) & input_mask
        if not unknown.any():
            break
        probabilities, candidates = map(
            np.asarray,
            _candidates(
                trained.model,
                top_k,
                num_reserved,
                trained.params,
                trained.state,
                ids,
                input_mask,
            ),
        )
        check_finite(probabilities[unknown])
        chosen = _most_certain(probabilities[..., 0], unknown, steps_left)
        ids[chosen] = candidates[chosen, 0]
        top_ids[chosen], top_probabilities[chosen] = candidates[chosen], probabilities[chosen]
        advance(int(chosen.sum()))
    return Filled(ids[:, :length], top_ids[:, :length], top_probabilities[:, :length])


def filled_up(
    ids: Int32[np.ndarray, "B M"], input_mask: Bool[np.ndarray, "B M"], longest: int
) -> tuple[Int32[np.ndarray, "B m"], Bool[np.ndarray, "B m"]]:
    """Pads texts and mask to one of few lengths up to `longest`: each length compiles a program."""
    length = ids.shape[1]
    padding = [(0, 0), (0, min(-(-length // _LENGTH_STEP) * _LENGTH_STEP, longest) - length)]
    return np.pad(ids, padding), np.pad(input_mask, padding)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _candidates(
    model: Architecture,
    top_k: int,
    num_reserved: int,
    params: PyTree,
    state: PyTree,
    ids: Array,
    input_mask: Array,
) -> tuple[Float[Array, "B M K"], Int32[Array, "B M K"]]:
    """Probabilities and ids of the most probable tokens."""
    logits, _ = model.apply(
        params, state, None, inputs=ids, input_mask=input_mask, is_training=False
    )
    is_allowed = jnp.arange(logits.shape[-1]) >= num_reserved
    if top_k > logits.shape[-1] - num_reserved:
        raise UserError(
            f"top_k={top_k} is more than the {logits.shape[-1] - num_reserved} ids that may be "
            "filled in."
        )
    probabilities = jax.nn.softmax(jnp.where(is_allowed, logits, -jnp.inf))
    return jax.lax.top_k(probabilities, top_k)


def _most_certain(
    certainty: Float[np.ndarray, "B M"], unknown: Bool[np.ndarray, "B M"], steps_left: int
) -> Bool[np.ndarray, "B M"]:
    """The masked tokens of each text to fill in at this step."""
    share = -(-unknown.sum(axis=1, keepdims=True) // steps_left)
    order = np.argsort(np.where(unknown, -certainty, np.inf), axis=1, kind="stable")
    rank = np.argsort(order, axis=1)
    return unknown & (rank < share)


def _check_shapes(ids: np.ndarray, input_mask: np.ndarray, longest: int) -> None:
    if ids.ndim != 2 or ids.shape != input_mask.shape:
        raise UserError(
            f"ids of shape {ids.shape} and a mask of shape {input_mask.shape} do not match: both "
            "must be (texts, tokens)."
        )
    if ids.shape[1] > longest:
        raise UserError(
            f"The text has {ids.shape[1]} tokens, but the model takes at most {longest}: shorten "
            "it, or split it into several texts."
        )
