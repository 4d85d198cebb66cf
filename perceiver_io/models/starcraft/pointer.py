"""A pointer network that selects units one after the other (1506.03134), as in AlphaStar.

Each pick is a distribution over the units and a token that ends the selection. Units that are
picked already cannot be picked again, and the first pick is a unit if there is any to pick. What is
picked next depends on what was picked through the sum of the keys of the picked units, so that all
picks of a known selection are computed at once.
"""

from typing import NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from perceiver_io.models.layers import linear, relu_mlp
from perceiver_io.models.weights import MLP, POSITION_INIT, Linear, get_linear

# The logit of what must not be chosen; finite, so that no difference of two is NaN.
EXCLUDED = -1e30
# In place of the slot of a unit: nothing.
NOTHING = -1


class Pointer(NamedTuple):
    """The weights.

    Attributes:
        keys: from encoded units to their keys.
        end: the key of the token that ends the selection.
        query: from the state to the hidden layer and from there to the query of a pick.
        picked: from the sum of the picked keys to the hidden layer of the query.
    """

    keys: MLP
    end: Float[Array, " K"]
    query: MLP
    picked: Linear


class Choices(NamedTuple):
    """What can be selected.

    Attributes:
        keys: of the units, and of the end as the last one.
        selectable: the units that can be selected.
    """

    keys: Float[Array, "B U+1 K"]
    selectable: Bool[Array, "B U"]


def get_pointer(entity_dim: int, state_dim: int, hidden_dim: int, key_dim: int) -> Pointer:
    """The parameters `pointer/...` of the calling module."""
    with hk.name_scope("pointer"):
        return Pointer(
            keys=MLP(
                get_linear("key_hidden", entity_dim, hidden_dim),
                get_linear("keys", hidden_dim, key_dim),
            ),
            end=hk.get_parameter("end", [key_dim], init=POSITION_INIT),
            query=MLP(
                get_linear("query_hidden", state_dim, hidden_dim),
                get_linear("queries", hidden_dim, key_dim),
            ),
            picked=get_linear("picked", key_dim, hidden_dim),
        )


def choices(
    weights: Pointer, entities: Float[Array, "B U E"], selectable: Bool[Array, "B U"]
) -> Choices:
    """Projects encoded units to keys, once for any number of picks."""
    keys = relu_mlp(weights.keys, entities)
    end = jnp.broadcast_to(weights.end, (len(keys), 1, keys.shape[-1]))
    return Choices(jnp.concatenate([keys, end], axis=1), selectable)


def known_picks(
    weights: Pointer,
    among: Choices,
    state: Float[Array, "B S"],
    selected: Int[Array, "B P"],
) -> Float[Array, "B P V"]:
    """The logits of each pick, given those before it (teacher forcing); V is U + 1, the end last.

    Args:
        weights: of the pointer.
        among: what can be selected.
        state: what the selection depends on.
        selected: the slots of the picked units; negative for none.
    """
    num_units = among.selectable.shape[1]
    picks = jax.nn.one_hot(selected, num_units, dtype=among.keys.dtype)
    before = jnp.cumsum(picks, axis=1) - picks
    is_first = jnp.arange(selected.shape[1])[:, None] == 0
    return _logits(weights, among, state[:, None], before, is_first)


def own_picks(
    weights: Pointer,
    among: Choices,
    state: Float[Array, "B S"],
    num_picks: int,
    rng: PRNGKeyArray | None,
) -> Int[Array, "B P"]:
    """Selects units one after the other: the most probable ones, or at random if `rng` is given.

    Args:
        weights: of the pointer.
        among: what can be selected.
        state: what the selection depends on.
        num_picks: the greatest number of units.
        rng: key for random picks by their probabilities; None: each time the most probable one.

    Returns:
        The slots of the picked units; after the end, `NOTHING`.
    """
    batch, num_units = among.selectable.shape

    def pick(carry, step):
        before, is_over = carry
        number, key = step
        logits = _logits(weights, among, state, before, number == 0).astype(jnp.float32)
        found = logits.argmax(-1) if key is None else jax.random.categorical(key, logits)
        is_over |= found == num_units
        before += jax.nn.one_hot(jnp.where(is_over, NOTHING, found), num_units, dtype=before.dtype)
        return (before, is_over), jnp.where(is_over, NOTHING, found).astype(jnp.int32)

    start = jnp.zeros((batch, num_units), among.keys.dtype), jnp.zeros(batch, bool)
    keys = None if rng is None else jax.random.split(rng, num_picks)
    _, picks = jax.lax.scan(pick, start, (jnp.arange(num_picks), keys))
    return picks.T


def _logits(
    weights: Pointer,
    among: Choices,
    state: Float[Array, "B ... S"],
    before: Float[Array, "B ... U"],
    is_first: Bool[Array, "..."],
) -> Float[Array, "B ... U+1"]:
    """The logits of a pick, where `before` is 1 for the units that are picked already."""
    batch, *steps = before.shape[:-1]
    units = among.keys[:, :-1]
    summed = jnp.einsum("b...u,buk->b...k", before, units)
    hidden = linear(weights.query.hidden, state) + linear(weights.picked, summed)
    queries = linear(weights.query.output, jax.nn.relu(hidden))
    scale = queries.shape[-1] ** -0.5
    logits = jnp.einsum("b...k,buk->b...u", scale * queries, among.keys)
    selectable = among.selectable.reshape(batch, *[1] * len(steps), -1)
    free = selectable & (before == 0)
    may_end = ~free.any(-1, keepdims=True) | ~is_first
    allowed = jnp.concatenate([free, jnp.broadcast_to(may_end, (batch, *steps, 1))], axis=-1)
    return jnp.where(allowed, logits, EXCLUDED)
