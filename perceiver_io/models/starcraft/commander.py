"""The whole model: units in; action type, selected units and target unit out."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from perceiver_io.models.layers import linear, relu_mlp
from perceiver_io.models.starcraft import pointer
from perceiver_io.models.starcraft.embedding import UnitEmbedding, UnitEncoding
from perceiver_io.models.starcraft.entities import Entities, EntityEncoder
from perceiver_io.models.weights import MLP, Linear, get_linear

Inputs = Mapping[str, Array | UnitEncoding]
Outputs = dict[str, Array | dict[str, Array]]


class Encoded(NamedTuple):
    """Encoded units, which of the slots have one, and which of these can be selected."""

    entities: Entities
    mask: Bool[Array, "B U"]
    selectable: Bool[Array, "B U"]


class Weights(NamedTuple):
    """The weights of the heads.

    Attributes:
        action: from the pooled units to the logits of the action types.
        chosen_action: from the action type to the state of the following heads.
        pointer: selects units.
        selected: from the mean of the selected units to the state of the target.
        target: from the state to the query for the target.
        target_keys: from encoded units to their keys as targets.
    """

    action: MLP
    chosen_action: Linear
    pointer: pointer.Pointer
    selected: Linear
    target: MLP
    target_keys: Linear


@dataclass(frozen=True)
class Commander:
    """Chooses an action type, then the units that are to do it, then the target.

    Inputs are `units`, encoded; `unit_mask` [B, U], False for empty slots; and `selectable` [B, U],
    the units that can be selected.

    embedding: of the units.
    encoder: of embedded units.
    num_actions: A, number of action types.
    max_selected: P, the greatest number of selected units.
    key_dim: width of keys and queries; the hidden layers of the heads are as wide as encoded units.
    """

    embedding: UnitEmbedding
    encoder: EntityEncoder
    num_actions: int
    max_selected: int
    key_dim: int

    def __call__(
        self, inputs: Inputs, *, query: Mapping[str, Array] | None = None, is_training: bool
    ) -> Outputs:
        """`decode` after `encode`."""
        encoded = self.encode(inputs, is_training=is_training)
        return self.decode(encoded, query=query, is_training=is_training)

    def encode(self, inputs: Inputs, *, is_training: bool) -> Encoded:
        """Encodes the units."""
        mask = inputs["unit_mask"]
        entities = self.encoder(self.embedding(inputs["units"]), mask, is_training)
        return Encoded(entities, mask, inputs["selectable"] & mask)

    def decode(
        self,
        encoded: Encoded,
        *,
        query: Mapping[str, Array] | None = None,
        is_training: bool,
    ) -> Outputs:
        """The logits of a command and, outside of training, a command of the model's own.

        Args:
            encoded: the units.
            query: what is known of the command, which may be nothing: `action` [B], and `selected`
                [B, P], the slots of the selected units in order; negative for none. If it is None,
                no command is chosen.
            is_training: if True, no command is chosen.

        Returns:
            Logits, of which each depends on the parts of the command before it as far as they are
            in the query: `action` [B, A]; `selected` [B, P, U + 1], the end as the last one; and
            `target` [B, U]. And `chosen`, in which each part depends on those chosen before it:
            `action` [B]; `selected` [B, P], slots in order, then -1; and `target` [B], a slot.
            Whether the target is a unit at all depends on the action type. With a random key, each
            part is drawn by its probabilities, else it is the most probable one.
        """
        weights = get_weights(self, encoded.entities.pooled.shape[-1])
        among = pointer.choices(weights.pointer, encoded.entities.each, encoded.selectable)
        batch = len(encoded.mask)
        known = {
            "action": jnp.full(batch, pointer.NOTHING),
            "selected": jnp.full((batch, self.max_selected), pointer.NOTHING),
        } | dict(query or {})
        state = state_of(weights, encoded, known["action"])
        outputs = {
            "action": action_logits(weights, encoded),
            "selected": pointer.known_picks(weights.pointer, among, state, known["selected"]),
            "target": target_logits(weights, encoded, state, known["selected"]),
        }
        if query is None or is_training:
            return outputs
        chosen = choose(weights, encoded, among, self.max_selected, hk.maybe_next_rng_key())
        return outputs | {"chosen": chosen}


def get_weights(model: Commander, width: int) -> Weights:
    """The parameters `heads/...`, for encoded units of this width."""
    with hk.name_scope("heads"):
        return Weights(
            action=MLP(
                get_linear("action_hidden", width, width),
                get_linear("action", width, model.num_actions),
            ),
            chosen_action=get_linear("chosen_action", model.num_actions, width),
            pointer=pointer.get_pointer(width, width, width, model.key_dim),
            selected=get_linear("selected", width, width),
            target=MLP(
                get_linear("target_hidden", width, width),
                get_linear("target", width, model.key_dim),
            ),
            target_keys=get_linear("target_units/key", width, model.key_dim),
        )


def choose(
    weights: Weights,
    encoded: Encoded,
    among: pointer.Choices,
    max_selected: int,
    rng: PRNGKeyArray | None,
) -> dict[str, Int[Array, "B ..."]]:
    """A command of which each part depends on those chosen before it; see `Commander.decode`."""
    of_action, of_selected, of_target = (None,) * 3 if rng is None else jax.random.split(rng, 3)
    action = _drawn(action_logits(weights, encoded), of_action)
    state = state_of(weights, encoded, action)
    picks = pointer.own_picks(weights.pointer, among, state, max_selected, of_selected)
    target = _drawn(target_logits(weights, encoded, state, picks), of_target)
    return {"action": action, "selected": picks, "target": target}


def action_logits(weights: Weights, encoded: Encoded) -> Float[Array, "B A"]:
    """The logits of the action types."""
    return relu_mlp(weights.action, encoded.entities.pooled)


def state_of(weights: Weights, encoded: Encoded, action: Int[Array, " B"]) -> Float[Array, "B E"]:
    """What the selection depends on: all units, and the action type."""
    one_hot = jax.nn.one_hot(action, weights.chosen_action.weight.shape[0])
    pooled = encoded.entities.pooled
    return pooled + linear(weights.chosen_action, one_hot.astype(pooled.dtype))


def target_logits(
    weights: Weights,
    encoded: Encoded,
    state: Float[Array, "B E"],
    selected: Int[Array, "B P"],
) -> Float[Array, "B U"]:
    """The logits of the target, given the selected units."""
    each = encoded.entities.each
    is_selected = jax.nn.one_hot(selected, each.shape[1], dtype=each.dtype).sum(1)
    count = jnp.maximum(is_selected.sum(1, keepdims=True), 1)
    mean = jnp.einsum("bu,bue->be", is_selected, each) / count
    queries = relu_mlp(weights.target, state + linear(weights.selected, mean))
    keys = linear(weights.target_keys, each)
    logits = jnp.einsum("bk,buk->bu", queries * queries.shape[-1] ** -0.5, keys)
    return jnp.where(encoded.mask, logits, pointer.EXCLUDED)


def _drawn(logits: Float[Array, "B X"], rng: PRNGKeyArray | None) -> Int[Array, " B"]:
    """The most probable choice, or a random one by the probabilities."""
    logits = logits.astype(jnp.float32)
    found = logits.argmax(-1) if rng is None else jax.random.categorical(rng, logits)
    return found.astype(jnp.int32)
