"""Recordings and games of StarCraft II: features, commands and damaged files."""

import importlib.util
from types import SimpleNamespace

import numpy as np
import pytest

from perceiver_io.config.unit_features import COLUMN, TYPES, UNIT_FEATURES
from perceiver_io.data.starcraft import messages
from perceiver_io.data.starcraft.episodes import read_episode
from perceiver_io.data.starcraft.games import POINT, UNIT, read_game, write_game
from perceiver_io.errors import UserError
from scripts import _recordings
from tests.helpers.starcraft import ENEMY, NEUTRAL, OWN, observation, recording

UNITS = [
    (7, NEUTRAL, dict(mineral_contents=900, display_type=2)),
    (1, OWN, dict(health=40, health_max=50, is_selected=True, add_on_tag=3, buff_ids=[5, 6, 8])),
    (2, OWN, dict(energy=50, energy_max=200, weapon_cooldown=3.7, cargo_space_taken=2)),
    (3, OWN, dict(unit_type=5, build_progress=0.5)),
    (9, ENEMY, dict(pos=(30.5, 40.0))),
]


def game_of(tmp_path, *times, **settings):
    path = tmp_path / "game.pb"
    path.write_bytes(recording(*times))
    return read_episode(path, **settings)


def feature(observed, tag, name):
    return observed.units[list(observed.tags).index(tag), COLUMN[name]]


def test_features_of_units(tmp_path):
    message = observation(100, UNITS)
    units = message.observation.raw_data.units
    for ability, progress in ((500, 0.25), (501, 0.0), (502, 0.0)):
        units[1].orders.add(ability_id=ability, progress=progress)
    units[2].passengers.add(tag=4, unit_type=48, health=30, health_max=45)
    game, _ = game_of(tmp_path, (2, message))
    (observed,) = game.observations("game")
    assert observed.map_size == (32, 48) and (observed.player, observed.loop) == (2, 100)
    assert observed.name == "game, player 2 at loop 100"
    assert observed.units.shape == (6, len(UNIT_FEATURES))
    assert observed.tags.tolist() == [7, 1, 2, 4, 3, 9], "passengers follow their transport"
    expected = {
        (7, "minerals"): 900, (7, "display"): 2, (7, "alliance"): NEUTRAL,
        (1, "type"): 48, (1, "x"): 10.5, (1, "y"): 20.25, (1, "health"): 40,
        (1, "health_ratio"): 0.8, (1, "shield_ratio"): 0, (1, "selected"): 1,
        (1, "addon_type"): 5, (1, "buff_1"): 5, (1, "buff_2"): 6, (1, "order_length"): 3,
        (1, "order_1"): 500, (1, "order_2"): 501, (1, "order_3"): 502, (1, "order_4"): 0,
        (1, "order_progress_1"): 0.25, (2, "energy_ratio"): 0.25, (2, "cooldown"): 3.7,
        (2, "cargo_taken"): 2, (2, "in_cargo"): 0, (4, "in_cargo"): 1, (4, "alliance"): OWN,
        (4, "x"): 10.5, (4, "health"): 30, (3, "build_progress"): 0.5, (9, "x"): 30.5,
        (9, "y"): 40,
    }  # fmt: skip
    for (tag, name), value in expected.items():
        assert feature(observed, tag, name) == np.float32(value), (tag, name)


def test_every_feature_is_described():
    """The names in the table are those that are computed."""
    every = dict.fromkeys(UNIT_FEATURES)
    assert len(every) == 40 and set(COLUMN) == set(every)


TIMES = (
    (1, observation(50, UNITS, [(20, dict(ability_id=1, selected=[1]))])),
    (2, observation(50, UNITS)),
    (1, observation(90, UNITS, [
        (50, dict(ability_id=23, selected=[2, 1], point=(3.5, 4))),
        (70, dict(ability_id=1, selected=[1, 77], target_unit_tag=7)),
    ])),
    (2, observation(400, UNITS, [(100, dict(ability_id=5, selected=[9]))])),
)  # fmt: skip


def found(result):
    game, unpaired = result
    observed = game.observations("game")
    commands = [
        (observed[index].player, observed[index].loop, command.loop, command.action)
        for index, command in game.commands()
    ]
    return commands, unpaired


def test_commands_belong_to_the_observation_before_them(tmp_path):
    commands, unpaired = found(game_of(tmp_path, *TIMES, max_delay=50))
    assert commands == [(1, 50, 50, "23 at a point"), (1, 50, 70, "1 at a unit"), (2, 50, 100, "5")]
    assert unpaired == 1, "nothing was observed before loop 20"
    commands, unpaired = found(game_of(tmp_path, *TIMES, max_delay=49))
    assert len(commands) == 2 and unpaired == 2


def test_commands_belong_to_their_own_observation(tmp_path):
    result = game_of(tmp_path, *TIMES, pairing="own")
    commands, unpaired = found(result)
    assert [x[:3] for x in commands] == [(1, 50, 20), (1, 90, 50), (1, 90, 70), (2, 400, 100)]
    assert unpaired == 0
    _, second, third, _ = [command for _, command in result.game.commands()]
    assert second.selected.tolist() == [2, 1] and second.target_point.tolist() == [3.5, 4]
    assert second.target_kind == POINT and third.target_kind == UNIT and third.target_tag == 7


@pytest.mark.parametrize("share", [0.1, 0.5, 0.97])
def test_truncated_recordings_name_the_place(tmp_path, share):
    path = tmp_path / "cut.pb"
    data = recording(*TIMES)
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(UserError, match=r"cut.pb is truncated: what begins at byte \d+ needs"):
        read_episode(path)


def test_other_wrong_recordings(tmp_path):
    path = tmp_path / "game.pb"
    data = recording((1, observation(50, UNITS)))
    cases = {
        b"": "has no observations",
        recording(): "has no observations",
        b"\xff" * 12: "damaged at byte",
        data[:1] + b"\x85" * 11: "damaged at byte",
        data[:1]: "truncated: what begins at byte 1 ends within a number",
        data[data.index(b"\x12") :]: "does not begin with information",
        recording((1, observation(50, []))): r"player 1 at loop 50 has no raw units",
        recording((1, observation(50, [(1, OWN, dict(unit_type=TYPES))]))): (
            f"the type of a unit is {TYPES}, but the table has {TYPES} numbers"
        ),
    }
    for content, message in cases.items():
        path.write_bytes(content)
        with pytest.raises(UserError, match=message):
            read_episode(path)
    with pytest.raises(UserError, match="nowhere.pb cannot be read"):
        read_episode(tmp_path / "nowhere.pb")


def test_a_damaged_message_names_the_place(tmp_path):
    path = tmp_path / "game.pb"
    start = len(recording())
    time = bytes([2 << 3 | 2, 4, 1 << 3 | 2, 2, 0xFF, 0xFF])
    path.write_bytes(recording() + time)
    with pytest.raises(UserError, match=f"no ResponseObservation at byte {start + 4}"):
        read_episode(path)


def test_the_package_is_needed_for_recordings_only(tmp_path, monkeypatch):
    messages._pool.cache_clear()
    data = recording((1, observation(50, UNITS)))
    (tmp_path / "game.pb").write_bytes(data)
    write_game(tmp_path / "game.npz", read_episode(tmp_path / "game.pb").game)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    messages._pool.cache_clear()
    with pytest.raises(UserError, match="pip install s2clientprotocol"):
        read_episode(tmp_path / "game.pb")
    assert len(read_game(tmp_path / "game.npz").loop) == 1


def test_games_are_written_and_read(tmp_path):
    game, _ = game_of(tmp_path, *TIMES, pairing="own")
    write_game(tmp_path / "game.npz", game)
    again = read_game(tmp_path / "game.npz")
    for name, array in vars(game).items():
        np.testing.assert_array_equal(getattr(again, name), array)
    with np.load(tmp_path / "game.npz") as file:
        arrays = dict(file)
    arrays["feature_names"][0] = "kind"
    np.savez(tmp_path / "other.npz", **arrays)
    with pytest.raises(UserError, match="other.npz has the features kind, alliance"):
        read_game(tmp_path / "other.npz")
    del arrays["units"]
    np.savez(tmp_path / "lacking.npz", **arrays)
    (tmp_path / "damaged.npz").write_bytes((tmp_path / "game.npz").read_bytes()[:500])
    for name in ("lacking", "damaged", "missing"):
        with pytest.raises(UserError, match=f"{name}.npz is not a game"):
            read_game(tmp_path / f"{name}.npz")


def test_observations_of_a_replay_until_it_ends():
    """What `scripts.dump_replays` writes is read again."""
    loops = []
    controller = SimpleNamespace(loop=1)

    def observe():
        result = ["the end"] if controller.loop > 20 else []
        return SimpleNamespace(loop=controller.loop, player_result=result)

    def step(count):
        loops.append(controller.loop)
        controller.loop += count

    controller.observe, controller.step = observe, step
    found = [observed.loop for observed in _recordings.observations(controller, 8)]
    assert found == loops == [1, 9, 17]
