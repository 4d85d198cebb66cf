"""Writes recordings of StarCraft II, see perceiver_io/data/starcraft/episodes.py.

It needs no package, since it also runs where PySC2 is installed.
"""

from collections.abc import Iterator
from typing import Any

_GAME_INFO, _TIME = 1, 2
# How the value of a field is stored: bytes.
_BYTES = 2


def first_part(game_info: Any) -> bytes:
    """The beginning of a recording; `game_info` is a `ResponseGameInfo`."""
    return _field(_GAME_INFO, game_info.SerializeToString())


def point_in_time(player: int, observation: Any) -> bytes:
    """What a player, 1 or 2, observes at a time; `observation` is a `ResponseObservation`."""
    return _field(_TIME, _field(player, observation.SerializeToString()))


def observations(controller: Any, step: int) -> Iterator[Any]:
    """The observations of a replay from start to end, `step` game loops apart.

    Args:
        controller: PySC2's, whose replay has started.
        step: in game loops.
    """
    while True:
        observation = controller.observe()
        if observation.player_result:
            return
        yield observation
        controller.step(step)


def _field(number: int, value: bytes) -> bytes:
    return _varint(number << 3 | _BYTES) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    """A number, seven bits to a byte, the lowest first."""
    digits = []
    while value >= 128:
        digits.append(value & 127 | 128)
        value >>= 7
    return bytes([*digits, value])
