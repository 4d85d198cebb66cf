"""Commands in StarCraft II as examples: the units that a player sees, and what they are to do."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Int, Int32, UInt64

from perceiver_io.config.annotations import INPUT_SIZE, Length
from perceiver_io.config.construct import listing, nearest
from perceiver_io.config.unit_features import ALLY, COLUMN, ENEMY, NEUTRAL, OWN, UNIT_FEATURES
from perceiver_io.data.pipeline.dataset import Example, Preparation, Spec
from perceiver_io.data.starcraft.games import UNIT, Command, Game, Observation
from perceiver_io.errors import UserError

# In the labels: there is none, or it is not known.
NONE, UNKNOWN = -1, -2
# Who keeps a slot if there are more units.
_FIRST = (OWN, ENEMY, ALLY, NEUTRAL)


class Moment(NamedTuple):
    """An observation, the command that belongs to it, and the index of its action type.

    Attributes:
        action: `UNKNOWN` if the training data have no such action type.
    """

    observation: Observation
    command: Command
    action: int

    @property
    def name(self) -> str:
        """For messages."""
        return f"{self.observation.name}, command at loop {self.command.loop}"


@dataclasses.dataclass(frozen=True)
class UnitInput:
    """How an observation becomes the input of a model, in evaluation and prediction.

    Attributes:
        slots: number of units that the model takes. Of more, the player's own units are kept
            first, then those of enemies, allies, and neutral ones; within each, the first ones.
        hidden: names of features that the model does not see: they are always 0.
    """

    slots: int
    hidden: Sequence[str]

    def __post_init__(self):
        for name in self.hidden:
            if name not in UNIT_FEATURES:
                raise UserError(
                    f"config.data.hidden has {name!r}{nearest(name, UNIT_FEATURES)}, but the "
                    f"features of units are {listing(UNIT_FEATURES)}."
                )

    def __call__(self, observation: Observation) -> Example:
        """`units` [slots, F], `unit_mask` [slots], `selectable` [slots]; empty slots are 0.

        Selectable are the player's own units that no other unit carries.
        """
        shown = observation.units[self.kept(observation)]
        count = len(shown)
        units = np.zeros((self.slots, len(UNIT_FEATURES)), np.float32)
        units[:count] = shown
        mask = np.arange(self.slots) < count
        is_own = units[:, COLUMN["alliance"]] == OWN
        selectable = mask & is_own & (units[:, COLUMN["in_cargo"]] == 0)
        units[:, [COLUMN[name] for name in self.hidden]] = 0
        return {"units": units, "unit_mask": mask, "selectable": selectable}

    def kept(self, observation: Observation) -> Int[np.ndarray, " n"]:
        """The indices of the units that have slots, in the order of the slots."""
        alliance = observation.units[:, COLUMN["alliance"]]
        order = np.concatenate([np.flatnonzero(alliance == side) for side in _FIRST])
        return order[: self.slots]


@dataclasses.dataclass(frozen=True, kw_only=True)
class CommandPreparation(Preparation):
    """`Moment`s as the arrays of `UnitInput` and labels.

    `action` is the index of the action type; `selected` [max_selected] the slots of the selected
    units, in the game's order, then -1; `target` the slot of the target, -1 if it is no unit. What
    is not known is -2: an action type that the training data do not have, a target without a slot,
    and the first of `selected` if no selected unit has a slot or can be selected. Single ones of
    them are left out.

    Attributes:
        slots: of `UnitInput`.
        max_selected: units of a selection that are learned; of more, the first ones.
        hidden: of `UnitInput`.
    """

    slots: Annotated[Length, INPUT_SIZE] = 512
    max_selected: Annotated[Length, INPUT_SIZE] = 64
    hidden: tuple[str, ...] = ()

    def __post_init__(self):
        # Refuses wrong names.
        self.input  # noqa: B018

    @property
    def input(self) -> UnitInput:
        """How observations become inputs."""
        return UnitInput(self.slots, self.hidden)

    def training_example(self, raw: Moment, rng: np.random.Generator) -> Example:
        """As in evaluation."""
        return self.evaluation_example(raw, rng)

    def evaluation_example(self, raw: Moment, rng: np.random.Generator) -> Example:
        """Units and labels."""
        del rng
        example = self.input(raw.observation)
        tags = raw.observation.tags[self.input.kept(raw.observation)]
        return example | labels(raw, tags, example["selectable"], self.max_selected)

    def example_spec(self) -> Spec:
        """Float32 features, boolean masks, int32 labels."""
        return {
            "units": ((self.slots, len(UNIT_FEATURES)), np.dtype(np.float32)),
            "unit_mask": ((self.slots,), np.dtype(bool)),
            "selectable": ((self.slots,), np.dtype(bool)),
            "action": ((), np.dtype(np.int32)),
            "selected": ((self.max_selected,), np.dtype(np.int32)),
            "target": ((), np.dtype(np.int32)),
        }

    def for_prediction(self) -> dict[str, Any]:
        """The fields of `UnitInput`."""
        return dataclasses.asdict(self.input)

    def notice(self, examples: Sequence[Moment]) -> str | None:
        """How many observations have more units than there are slots."""
        count = sum(len(moment.observation.tags) > self.slots for moment in examples)
        return f"{count} with more than {self.slots} units" if count else None


def labels(
    moment: Moment,
    tags: UInt64[np.ndarray, " n"],
    selectable: Bool[np.ndarray, " U"],
    max_selected: int,
) -> dict[str, Int32[np.ndarray, "..."]]:
    """`action`, `selected` and `target` of a command; see `CommandPreparation`.

    Args:
        moment: with the command.
        tags: of the units in the slots.
        selectable: whether the unit in each slot can be selected.
        max_selected: length of `selected`.
    """
    command = moment.command
    slot = {int(tag): place for place, tag in enumerate(tags)}
    places = [slot[tag] for tag in map(int, command.selected) if tag in slot]
    places = [place for place in places if selectable[place]]
    selected = np.full(max_selected, NONE, np.int32)
    selected[: len(places)] = places[:max_selected]
    if not places:
        selected[0] = UNKNOWN
    target = slot.get(command.target_tag, UNKNOWN) if command.target_kind == UNIT else NONE
    return dict(action=np.int32(moment.action), selected=selected, target=np.int32(target))


def action_types(games: Iterable[Game]) -> tuple[str, ...]:
    """The names of the action types in some games, by ability and kind of target."""
    found = {
        (command.ability, command.target_kind): command.action
        for game in games
        for _, command in game.commands()
    }
    return tuple(found[key] for key in sorted(found))


def moments(game: Game, name: str, actions: Sequence[str]) -> list[Moment]:
    """The commands of a game with their observations; `actions` are the known action types."""
    observations = game.observations(name)
    index = {action: place for place, action in enumerate(actions)}
    return [
        Moment(observations[place], command, index.get(command.action, UNKNOWN))
        for place, command in game.commands()
    ]


def positions(units: Float32[np.ndarray, "n F"]) -> Float32[np.ndarray, "n 2"]:
    """The places of units on the map."""
    return units[:, [COLUMN["x"], COLUMN["y"]]]
