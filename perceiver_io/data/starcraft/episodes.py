"""Recordings of StarCraft II: the observations of one or both players, one after the other.

A recording is a protobuf message like PySC2's `RecordedEpisode`. Its field 1 is a
`ResponseGameInfo`, and each field 2 a point in time, whose fields 1 and 2 are the
`ResponseObservation`s of the players; the second may be missing. `scripts/dump_replays.py` writes
the same.
"""

import operator
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from google.protobuf.message import DecodeError

from perceiver_io.data.starcraft.games import NO_TARGET, POINT, UNIT, Game
from perceiver_io.data.starcraft.messages import message_class
from perceiver_io.data.starcraft.units import units_of
from perceiver_io.errors import UserError

Pairing = Literal["next", "own"]

# Fields of a recording.
_GAME_INFO, _TIME = 1, 2
_PLAYERS = (1, 2)
# How a field's value is stored.
_VARINT, _FIXED_64, _BYTES, _FIXED_32 = 0, 1, 2, 5


class Field(NamedTuple):
    """A field of a serialised message: its number, its value, and where it begins."""

    number: int
    value: bytes
    place: int


class Recorded(NamedTuple):
    """A game, and the number of its commands that follow no observation closely enough."""

    game: Game
    unpaired: int


def read_episode(path: Path, pairing: Pairing = "next", max_delay: int = 224) -> Recorded:
    """Reads a recording.

    Args:
        path: the file.
        pairing: which observation a command belongs to: `next`, the last one before the command,
            which is what a player knows; or `own`, the one that the game reported it with, which
            is the first one after it, and already shows what the command has changed.
        max_delay: with `next`, commands that come later after the observation are left out; in
            game loops.

    Raises UserError for a file that is damaged or truncated, with the place, and for observations
    without raw units.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from error
    found = list(fields(data, str(path)))
    times = [field for field in found if field.number == _TIME]
    if not times:
        raise UserError(f"{path} has no observations: it is empty, or not a recording.")
    info = [field for field in found if field.number == _GAME_INFO]
    if not info:
        raise UserError(f"{path} does not begin with information on the game: record it again.")
    about = _parsed("ResponseGameInfo", info[0], str(path))
    map_size = about.start_raw.map_size.x, about.start_raw.map_size.y
    responses = [
        (player, _parsed("ResponseObservation", part, str(path)))
        for time in times
        for part in fields(time.value, str(path), time.place)
        if (player := part.number) in _PLAYERS
    ]
    return as_game(responses, about.map_name, map_size, str(path), pairing, max_delay)


def as_game(
    responses: Iterable[tuple[int, Any]],
    map_name: str,
    map_size: tuple[int, int],
    name: str,
    pairing: Pairing,
    max_delay: int,
) -> Recorded:
    """A game from the observations of its players in the order of time.

    Args:
        responses: players, and their `ResponseObservation`s.
        map_name: of the map.
        map_size: its width and height.
        name: of the game, for messages.
        pairing: as in `read_episode`.
        max_delay: likewise.
    """
    units, tags, players, loops, commands = [], [], [], [], []
    last: dict[int, int] = {}
    unpaired = 0
    for index, (player, response) in enumerate(responses):
        observation = response.observation
        loop = int(observation.game_loop)
        features, own_tags = units_of(
            observation.raw_data, f"{name}, player {player} at loop {loop}"
        )
        units.append(features)
        tags.append(own_tags)
        players.append(player)
        loops.append(loop)
        belongs = index if pairing == "own" else last.get(player)
        for action in response.actions:
            if not action.action_raw.HasField("unit_command"):
                continue
            is_late = pairing == "next" and (
                belongs is None or action.game_loop - loops[belongs] > max_delay
            )
            unpaired += is_late
            if not is_late:
                commands.append((belongs, action.game_loop, action.action_raw.unit_command))
        last[player] = index
    # Commands of two players may come in any order.
    commands.sort(key=operator.itemgetter(0))
    observed = dict(
        map_name=np.array(map_name),
        map_size=np.array(map_size, np.int32),
        units=np.concatenate(units),
        tags=np.concatenate(tags),
        unit_starts=_starts(tags),
        player=np.array(players, np.int32),
        loop=np.array(loops, np.int32),
    )
    return Recorded(Game(**observed, **_command_arrays(commands)), unpaired)


def _command_arrays(commands: list[tuple[int, int, Any]]) -> dict[str, np.ndarray]:
    """The arrays of a `Game` about commands: the observation, the game loop and the message."""
    messages = [message for _, _, message in commands]
    kinds = {
        None: NO_TARGET,
        "target_world_space_pos": POINT,
        "target_unit_tag": UNIT,
    }
    points = [(x.target_world_space_pos.x, x.target_world_space_pos.y) for x in messages]
    selected = [np.array(x.unit_tags, np.uint64) for x in messages]
    return dict(
        command_observation=np.array([index for index, _, _ in commands], np.int32),
        command_loop=np.array([loop for _, loop, _ in commands], np.int32),
        ability=np.array([x.ability_id for x in messages], np.int32),
        target_kind=np.array([kinds[x.WhichOneof("target")] for x in messages], np.int32),
        target_tag=np.array([x.target_unit_tag for x in messages], np.uint64),
        target_point=np.array(points, np.float32).reshape(-1, 2),
        selected_tags=np.concatenate([np.zeros(0, np.uint64), *selected]),
        selected_starts=_starts(selected),
    )


def _starts(parts: list[np.ndarray]) -> np.ndarray:
    return np.cumsum([0, *map(len, parts)], dtype=np.int64)


def fields(data: bytes, name: str, place: int = 0) -> Iterator[Field]:
    """The fields of a serialised message whose values are bytes; others are skipped.

    Args:
        data: the message.
        name: of the file, for messages.
        place: where in the file the message begins.

    Raises UserError with the place if the message is cut or damaged.
    """
    at = 0
    while at < len(data):
        start = at
        key, at = _varint(data, at, name, place)
        kind, size = key & 7, 0
        if kind == _VARINT:
            _, at = _varint(data, at, name, place)
        elif kind in (_FIXED_64, _FIXED_32):
            size = 8 if kind == _FIXED_64 else 4
        elif kind == _BYTES:
            size, at = _varint(data, at, name, place)
        else:
            raise UserError(f"{name} is damaged at byte {place + start}: copy or record it again.")
        if at + size > len(data):
            raise _cut(name, place + start, f"needs {size:,} bytes more, has {len(data) - at:,}")
        if kind == _BYTES:
            yield Field(key >> 3, data[at : at + size], place + at)
        at += size


def _varint(data: bytes, at: int, name: str, place: int) -> tuple[int, int]:
    """A number of variable length, and the place after it."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise _cut(name, place + at, "ends within a number")
        byte = data[at]
        value |= (byte & 127) << shift
        at += 1
        if byte < 128:
            return value, at
    raise UserError(f"{name} is damaged at byte {place + at}: copy or record it again.")


def _cut(name: str, place: int, what: str) -> UserError:
    return UserError(
        f"{name} is truncated: what begins at byte {place} {what}. Copy or record it again."
    )


def _parsed(message: str, field: Field, name: str) -> Any:
    try:
        return message_class(message).FromString(field.value)
    except DecodeError as error:
        raise UserError(
            f"{name} is damaged: there is no {message} at byte {field.place} ({error}). Copy or "
            "record it again."
        ) from error
