"""Records what the players observe in your own replays of StarCraft II.

    python scripts/dump_replays.py --replay=FILE.SC2Replay --output=FOLDER [--step=8]

--replay may be repeated. This runs on a machine with the game, in an environment of its own with
PySC2 (`pip install pysc2`; PySC2 needs an older protobuf than this project). Each replay becomes
FOLDER/NAME.pb, which `python -m scripts.convert_replays` converts in this project's environment.

The replay is played once for each player, who observes raw units every --step game loops; of the
commands, PySC2 reports those that the game keeps in a replay. The game's version must be that of
the replay. Replays of more than two players, and those that the game cannot open, are skipped.
"""

import sys
from pathlib import Path

if not __package__:  # Run as a file: imports start at the repository's root.
    sys.path[0] = str(Path(__file__).parents[1])

from absl import app, flags
from pysc2 import run_configs
from s2clientprotocol import sc2api_pb2 as protocol

from scripts import _recordings

REPLAY = flags.DEFINE_multi_string("replay", None, "A replay; repeatable.", required=True)
OUTPUT = flags.DEFINE_string("output", None, "Folder of the recordings.", required=True)
STEP = flags.DEFINE_integer("step", 8, "Game loops between observations.", lower_bound=1)

PLAYERS = (1, 2)


def main(_) -> None:
    """Records all replays with one start of the game."""
    folder = Path(OUTPUT.value).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    run_config = run_configs.get()
    with run_config.start(want_rgb=False) as controller:
        for replay in map(Path, REPLAY.value):
            data = run_config.replay_data(str(replay))
            info = controller.replay_info(data)
            if info.HasField("error") or len(info.player_info) != len(PLAYERS):
                print(f"{replay}: skipped {info.error_details or 'since it has not two players'}")
                continue
            record(controller, data, folder / f"{replay.stem}.pb")
            print(f"{replay}: recorded")


def record(controller, replay_data: bytes, path: Path) -> None:
    """Plays a replay for each player and writes what is observed; a stopped one leaves no file."""
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        for player in PLAYERS:
            controller.start_replay(
                protocol.RequestStartReplay(
                    replay_data=replay_data,
                    options=protocol.InterfaceOptions(raw=True),
                    observed_player_id=player,
                )
            )
            if player == PLAYERS[0]:
                file.write(_recordings.first_part(controller.game_info()))
            controller.step()
            for observation in _recordings.observations(controller, STEP.value):
                file.write(_recordings.point_in_time(player, observation))
    part.rename(path)


if __name__ == "__main__":
    app.run(main)
