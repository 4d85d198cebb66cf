"""Commands for recorded games: the same in Python and in files."""

import json

import numpy as np
import pytest

from perceiver_io.data.starcraft.episodes import read_episode
from perceiver_io.data.starcraft.games import write_game
from perceiver_io.errors import UserError
from perceiver_io.tasks.predictor import Trained
from perceiver_io.tasks.unit_commands.prediction import UnitCommander
from tests.helpers.architectures import initialised, small, units
from tests.helpers.starcraft import ENEMY, OWN, observation, recording

pytestmark = pytest.mark.usefixtures("for_cpu")

NAMES = ("1", "1 at a unit", "5", "23 at a unit")
PREPARED = {"slots": 9, "hidden": ["selected"], "normalization": None, "class_names": NAMES}
UNITS = [(tag, OWN, dict(pos=(tag, 40 - tag))) for tag in range(1, 5)]
SEEN = [*UNITS, *((tag, ENEMY, dict(pos=(tag, 30))) for tag in range(6, 14))]
TIMES = (
    (1, observation(50, SEEN)),
    (1, observation(90, SEEN, [(60, dict(ability_id=1, selected=[2, 99], target_unit_tag=7))])),
    (2, observation(50, UNITS)),
)


@pytest.fixture(scope="module")
def commander():
    section, _ = small("transformer_commander")
    parts = initialised(section, units(batch=1))
    return UnitCommander(Trained(*parts, section, None, PREPARED))


@pytest.fixture
def path(tmp_path):
    (tmp_path / "game.pb").write_bytes(recording(*TIMES))
    return tmp_path / "game.pb"


@pytest.mark.slow
def test_commands_for_a_recording(commander, path, tmp_path):
    game, _ = read_episode(path)
    chosen = commander.predict(game.observations("game"), batch_size=2)
    for command, observed in zip(chosen, game.observations("game"), strict=True):
        assert command.action in NAMES and 0 < command.probability <= 1
        own = {1, 2, 3, 4}
        assert 1 <= len(command.selected) <= 3 and {*map(int, command.selected)} <= own
        assert (command.target is not None) == ("unit" in command.action)
        assert command.target is None or command.target in observed.tags

    report = commander.write(tmp_path, inputs=[str(path)], batch_size=3)
    rows = [json.loads(line) for line in (tmp_path / "game_commands.jsonl").open()]
    assert [(x["player"], x["loop"]) for x in rows] == [(1, 50), (1, 90), (2, 50)]
    for row, command in zip(rows, chosen, strict=True):
        assert row["action"] == command.action and row["selected"] == command.selected.tolist()
        assert row["target"] == command.target and row["selected_types"] == [48] * len(
            row["selected"]
        )
    assert [row["given"] for row in rows] == [
        [dict(loop=60, action="1 at a unit", selected=[2, 99], target=7)],
        [],
        [],
    ]
    (answer,) = report.summary["games"]
    assert answer["observations"] == 3
    assert (tmp_path / "game_commands.png").stat().st_size > 5000

    write_game(tmp_path / "other.npz", game)
    commander.write(tmp_path, inputs=[str(tmp_path / "other.npz")], batch_size=3, pictures=0)
    again = (tmp_path / "other_commands.jsonl").read_text()
    assert again == (tmp_path / "game_commands.jsonl").read_text()
    assert not (tmp_path / "other_commands.png").exists()

    draws = {
        tuple(map(str, commander.predict(game.observations("game"), sample_seed=seed)))
        for seed in (0, 0, 1, 2, 3)
    }
    assert 1 < len(draws) <= 4


def test_wrong_inputs(commander, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "game.pb").write_bytes(recording(*TIMES)[:-5])
    with pytest.raises(UserError, match="game.pb is truncated"):
        commander.write(tmp_path, inputs=[str(tmp_path / "game.pb")])
    with pytest.raises(UserError, match="has no files .npz, .pb"):
        commander.write(tmp_path, inputs=[str(tmp_path / "folder")])
    np.savez(tmp_path / "game.npz", x=np.zeros(1))
    with pytest.raises(UserError, match="game.npz is not a game"):
        commander.write(tmp_path, inputs=[str(tmp_path / "game.npz")])
