"""Sources of commands: the bundled game, and folders of your own games."""

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from perceiver_io.config.annotations import Text
from perceiver_io.data.pipeline.dataset import Composed
from perceiver_io.data.pipeline.sources import ReadOnUse, Source
from perceiver_io.data.pipeline.splits import split_folders
from perceiver_io.data.starcraft.commands import CommandPreparation, Moment, action_types, moments
from perceiver_io.data.starcraft.games import Game, read_game
from perceiver_io.errors import UserError

BUNDLED = Path(__file__).parents[1] / "bundled" / "starcraft" / "tvt.npz"
# The first game loop of validation and of test.
_VALIDATION, _TEST = 10_000, 11_000


class BundledGame(Source):
    """104 commands of the two players of one game; see bundled/starcraft/ORIGIN.md.

    Each belongs to an observation that was made up to 50 game loops (2.2 s) after it. The splits
    follow each other in the game: train 62, validation 13, test 29.
    """

    splits: ClassVar[tuple[str, ...]] = ("train", "validation", "test")

    @property
    def class_names(self) -> tuple[str, ...]:
        """The action types of the training split."""
        return _bundled_actions()

    def __call__(self, split: str) -> Sequence[Moment]:
        """The moments of a split, in memory."""
        all_moments = moments(_bundled(), "the bundled game", self.class_names)
        return [moment for moment in all_moments if _split(moment) == split]


@dataclasses.dataclass(frozen=True)
class GameFolder(Source):
    """Games as .npz files, which `scripts/convert_replays.py` writes.

    Attributes:
        root: the folder, with a sub-folder `train` and others for validation and test.
    """

    root: Text

    @property
    def splits(self) -> tuple[str, ...]:
        """Those that have a folder. Raises UserError if there is none for training."""
        return tuple(self._folders())

    @property
    def class_names(self) -> tuple[str, ...]:
        """The action types of the training split."""
        return _folder_actions(self._folders()["train"])

    def __call__(self, split: str) -> Sequence[Moment]:
        """The moments of a split, which each process reads."""
        folders = self._folders()
        return ReadOnUse(functools.partial(_folder_moments, folders[split], folders["train"]))

    def _folders(self) -> dict[str, Path]:
        root = Path(self.root).expanduser()
        found = split_folders(root)
        if not found:
            raise UserError(
                f"{root} has no folder `train`: put games as .npz files into the folders train, "
                "validation and test there, or set config.data.root to a folder that has them."
            )
        return found


bundled_game = Composed(BundledGame, CommandPreparation)
game_folder = Composed(GameFolder, CommandPreparation)


def _split(moment: Moment) -> str:
    loop = moment.observation.loop
    if loop < _VALIDATION:
        return "train"
    return "validation" if loop < _TEST else "test"


@functools.cache
def _bundled() -> Game:
    return read_game(BUNDLED)


@functools.cache
def _bundled_actions() -> tuple[str, ...]:
    game = _bundled()
    everything = moments(game, "", ())
    training = {x.command.action for x in everything if _split(x) == "train"}
    return tuple(name for name in action_types([game]) if name in training)


@functools.cache
def _folder_actions(folder: Path) -> tuple[str, ...]:
    return action_types(map(read_game, _files(folder)))


@functools.cache
def _folder_moments(folder: Path, training: Path) -> list[Moment]:
    actions = _folder_actions(training)
    return [
        moment for path in _files(folder) for moment in moments(read_game(path), str(path), actions)
    ]


def _files(folder: Path) -> list[Path]:
    found = sorted(folder.glob("*.npz"))
    if not found:
        raise UserError(f"{folder} has no .npz files.")
    return found
