"""Games of StarCraft II as arrays: what the players observed, and what they commanded.

The arrays are those of a `.npz` file, which needs nothing but NumPy to be read.
"""

import dataclasses
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Int32, Int64, UInt64

from perceiver_io.config.unit_features import UNIT_FEATURES
from perceiver_io.errors import UserError

# What the target of a command can be.
NO_TARGET, POINT, UNIT = 0, 1, 2


class Observation(NamedTuple):
    """The units that a player sees at a time.

    Attributes:
        units: the features of `UNIT_FEATURES`, in their order.
        tags: the game's number of each unit.
        player: 1 or 2.
        loop: the time in game loops, of which there are 22.4 in a second.
        map_size: width and height, in the units of positions.
        name: for messages.
    """

    units: Float32[np.ndarray, "n F"]
    tags: UInt64[np.ndarray, " n"]
    player: int
    loop: int
    map_size: tuple[int, int]
    name: str


class Command(NamedTuple):
    """An order to some units.

    Attributes:
        ability: the game's number of what they are to do.
        target_kind: `NO_TARGET`, `POINT` or `UNIT`.
        selected: the tags of the units, in the game's order.
        target_tag: the target if it is a unit, else 0.
        target_point: the target if it is a point.
        loop: when it was given.
    """

    ability: int
    target_kind: int
    selected: UInt64[np.ndarray, " s"]
    target_tag: int
    target_point: Float32[np.ndarray, " 2"]
    loop: int

    @property
    def action(self) -> str:
        """Ability and kind of target, as the name of an action type."""
        return f"{self.ability}{('', ' at a point', ' at a unit')[self.target_kind]}"


@dataclasses.dataclass(frozen=True)
class Game:
    """The observations and commands of a game, one after the other in shared arrays.

    Observation i has the units from `unit_starts[i]` to `unit_starts[i + 1]`, command k likewise
    the tags `selected_tags`.

    Attributes:
        command_observation: the observation that each command is to be predicted from.
        The others are as in `Observation` and `Command`.
    """

    map_name: np.ndarray
    map_size: Int32[np.ndarray, " 2"]
    units: Float32[np.ndarray, "n F"]
    tags: UInt64[np.ndarray, " n"]
    unit_starts: Int64[np.ndarray, " O+1"]
    player: Int32[np.ndarray, " O"]
    loop: Int32[np.ndarray, " O"]
    command_observation: Int32[np.ndarray, " K"]
    command_loop: Int32[np.ndarray, " K"]
    ability: Int32[np.ndarray, " K"]
    target_kind: Int32[np.ndarray, " K"]
    target_tag: UInt64[np.ndarray, " K"]
    target_point: Float32[np.ndarray, "K 2"]
    selected_tags: UInt64[np.ndarray, " S"]
    selected_starts: Int64[np.ndarray, " K+1"]

    def observations(self, name: str) -> list[Observation]:
        """All observations; `name` is the game's, for messages."""
        width, height = map(int, self.map_size)
        return [
            Observation(
                units=self.units[start:stop],
                tags=self.tags[start:stop],
                player=int(player),
                loop=int(loop),
                map_size=(width, height),
                name=f"{name}, player {player} at loop {loop}",
            )
            for start, stop, player, loop in zip(
                self.unit_starts[:-1], self.unit_starts[1:], self.player, self.loop, strict=True
            )
        ]

    def commands(self) -> Iterator[tuple[int, Command]]:
        """Each command with the index of its observation."""
        for index, observation in enumerate(self.command_observation):
            start, stop = self.selected_starts[index : index + 2]
            command = Command(
                ability=int(self.ability[index]),
                target_kind=int(self.target_kind[index]),
                selected=self.selected_tags[start:stop],
                target_tag=int(self.target_tag[index]),
                target_point=self.target_point[index],
                loop=int(self.command_loop[index]),
            )
            yield int(observation), command


def write_game(path: Path, game: Game) -> None:
    """Writes a game as `.npz`, with the names of its features."""
    arrays = {field.name: getattr(game, field.name) for field in dataclasses.fields(game)}
    np.savez_compressed(path, feature_names=np.array(list(UNIT_FEATURES)), **arrays)


def read_game(path: Path) -> Game:
    """Reads what `write_game` wrote. Raises UserError if it is damaged, or has other features."""
    try:
        with np.load(path) as file:
            arrays = dict(file)
        names = tuple(map(str, arrays.pop("feature_names")))
        game = Game(**arrays)
    except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} is not a game as .npz ({error}): write it again.") from error
    if names != tuple(UNIT_FEATURES):
        raise UserError(
            f"{path} has the features {', '.join(names)}, but the model takes "
            f"{', '.join(UNIT_FEATURES)}: write it again from its recording."
        )
    return game
