"""Predicts commands for the observations of recorded games, and draws them on the map."""

import functools
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree, UInt64

from perceiver_io.config.unit_features import COLUMN
from perceiver_io.data.starcraft.commands import UnitInput
from perceiver_io.data.starcraft.episodes import read_episode
from perceiver_io.data.starcraft.games import Command, Game, Observation, read_game
from perceiver_io.errors import UserError
from perceiver_io.models.architectures import Architecture
from perceiver_io.progress import Progress
from perceiver_io.tasks.batches import (
    Advance,
    check_batch_size,
    check_finite,
    check_natural,
    each_in_batches,
    ignore,
)
from perceiver_io.tasks.figures import save
from perceiver_io.tasks.files import existing, unique_names
from perceiver_io.tasks.predictor import Predictor, Report, Trained
from perceiver_io.tasks.unit_commands.figures import DrawnCommand, Shown, commands

_SUFFIXES = (".npz", ".pb")


class ChosenCommand(NamedTuple):
    """What the model commands.

    Attributes:
        action: the name of the action type.
        probability: of the action type.
        selected: the tags of the selected units, in the order in which they were picked.
        target: the tag of the target; None if the action type has no target unit.
    """

    action: str
    probability: float
    selected: UInt64[np.ndarray, " s"]
    target: int | None


class UnitCommander(Predictor):
    """Commands for observations of StarCraft II.

    Attributes:
        trained: the model and its weights.
        class_names: the action types.
        input: how observations are prepared for the model.
    """

    def __init__(self, trained: Trained):
        super().__init__(trained)
        self.class_names = tuple(trained.prepared("class_names"))
        self.input = UnitInput(trained.prepared("slots"), tuple(trained.prepared("hidden")))

    def predict(
        self,
        observations: Sequence[Observation],
        *,
        batch_size: int = 8,
        sample_seed: int | None = None,
    ) -> list[ChosenCommand]:
        """A command for each observation.

        Args:
            observations: those of `read_game(path).observations(name)`, for example.
            batch_size: observations at a time.
            sample_seed: of commands that are drawn by their probabilities; None: each part is the
                most probable one.
        """
        return list(self.each(observations, batch_size, sample_seed, ignore))

    def each(
        self,
        observations: Sequence[Observation],
        batch_size: int,
        sample_seed: int | None,
        advance: Advance,
    ) -> Iterator[ChosenCommand]:
        """The commands of `predict`, one after the other."""
        check_batch_size(batch_size)
        rows = (
            self.input(observation) | {"number": np.uint32(number)}
            for number, observation in enumerate(observations)
        )
        parts = self.trained.model, self.trained.params, self.trained.state
        function = functools.partial(_chosen, *parts, sample_seed)
        found = each_in_batches(function, rows, batch_size, advance)
        for observation, answer in zip(observations, found, strict=True):
            check_finite(answer)
            yield self._named(observation, answer)

    def _named(self, observation: Observation, answer: Mapping[str, np.ndarray]) -> ChosenCommand:
        tags = observation.tags[self.input.kept(observation)]
        action = self.class_names[answer["action"]]
        selected = answer["selected"]
        return ChosenCommand(
            action=action,
            probability=float(answer["probability"]),
            selected=tags[selected[selected >= 0]],
            target=int(tags[answer["target"]]) if action.endswith("at a unit") else None,
        )

    def write(
        self,
        output: Path,
        *,
        inputs: Sequence[str],
        batch_size: int = 8,
        pictures: int = 6,
        sample_seed: int | None = None,
    ) -> Report:
        """Writes NAME_commands.jsonl for each game, and draws the first commands on maps.

        A line is an observation: the model's command, and the player's if there are any. In the
        figure, NAME_commands.png, the first of them is drawn.

        Args:
            output: the folder for them.
            inputs: games as `.npz`, recordings as `.pb`, and folders of both. The commands in a
                recording belong to the last observation before them.
            batch_size: observations at a time.
            pictures: greatest number of observations to draw, of each game; those with commands of
                the player first.
            sample_seed: as in `predict`.

        Raises UserError for files that cannot be read.
        """
        check_batch_size(batch_size)
        check_natural(pictures=pictures)
        paths = [path for given in existing(inputs) for path in _files(given)]
        answers: list[dict[str, Any]] = []
        with Progress(len(paths), "games") as progress:
            for path, name in zip(paths, unique_names(paths), strict=True):
                game = _read(path)
                observations = game.observations(str(path))
                chosen = self.predict(observations, batch_size=batch_size, sample_seed=sample_seed)
                given = _given(game)
                table = output / f"{name}_commands.jsonl"
                rows = (
                    json.dumps(_row(observation, command, given[index]))
                    for index, (observation, command) in enumerate(
                        zip(observations, chosen, strict=True)
                    )
                )
                table.write_text("".join(f"{row}\n" for row in rows))
                answers.append(
                    dict(input=str(path), observations=len(observations), table=str(table))
                )
                # Stable: in the order of time.
                order = sorted(range(len(observations)), key=lambda index: not given[index])
                shown = sorted(order[:pictures])
                if shown:
                    answers[-1]["figure"] = str(output / f"{name}_commands.png")
                    drawn = [_shown(observations[i], chosen[i], given[i]) for i in shown]
                    save(commands(drawn), Path(answers[-1]["figure"]))
                progress.advance()
        lines = [f"{x['input']}: {x['observations']} commands in {x['table']}" for x in answers]
        return Report("\n".join(lines), {"games": answers})


def _chosen(
    model: Architecture,
    params: PyTree,
    state: PyTree,
    seed: int | None,
    rows: Mapping[str, np.ndarray],
) -> PyTree[Array]:
    """The model's own commands for units in slots."""
    return _compiled(model)(params, state, None if seed is None else jax.random.key(seed), rows)


@functools.lru_cache(maxsize=8)
def _compiled(model: Architecture):
    def choose(params, state, rng, rows):
        units = dict(rows)
        first = units.pop("number")[0]
        rng = None if rng is None else jax.random.fold_in(rng, first)
        outputs, _ = model.apply(params, state, rng, inputs=units, query={}, is_training=False)
        chosen = outputs["chosen"]
        probabilities = jax.nn.softmax(outputs["action"])
        own = jnp.take_along_axis(probabilities, chosen["action"][:, None], axis=1)[:, 0]
        return chosen | {"probability": own}

    return jax.jit(choose)


def _files(path: Path) -> list[Path]:
    """The file, or those in the folder. Raises UserError if it has none."""
    if not path.is_dir():
        return [path]
    found = sorted(x for x in path.iterdir() if x.suffix in _SUFFIXES)
    if not found:
        raise UserError(f"The folder {path} has no files {', '.join(_SUFFIXES)}.")
    return found


def _read(path: Path) -> Game:
    return read_game(path) if path.suffix == ".npz" else read_episode(path).game


def _given(game: Game) -> Mapping[int, list[Command]]:
    """The player's commands by observation."""
    found: dict[int, list[Command]] = defaultdict(list)
    for index, command in game.commands():
        found[index].append(command)
    return found


def _row(
    observation: Observation, chosen: ChosenCommand, given: Sequence[Command]
) -> dict[str, Any]:
    types = dict(zip(map(int, observation.tags), observation.units[:, COLUMN["type"]], strict=True))
    selected = [int(tag) for tag in chosen.selected]
    return dict(
        player=observation.player,
        loop=observation.loop,
        action=chosen.action,
        probability=chosen.probability,
        selected=selected,
        selected_types=[int(types[tag]) for tag in selected],
        target=chosen.target,
        given=[
            dict(
                loop=command.loop,
                action=command.action,
                selected=list(map(int, command.selected)),
                target=command.target_tag or None,
            )
            for command in given
        ],
    )


def _shown(observation: Observation, chosen: ChosenCommand, given: Sequence[Command]) -> Shown:
    index = {int(tag): place for place, tag in enumerate(observation.tags)}

    def drawn(action: str, tags: Sequence[int], target: int | None) -> DrawnCommand:
        places = [index[tag] for tag in map(int, tags) if tag in index]
        return DrawnCommand(action, np.array(places, int), index.get(target or 0))

    first = None
    if given:
        first = drawn(given[0].action, given[0].selected, given[0].target_tag)
    return Shown(
        observation.units,
        drawn(chosen.action, chosen.selected, chosen.target),
        first,
        f"player {observation.player}, loop {observation.loop:,}",
    )
