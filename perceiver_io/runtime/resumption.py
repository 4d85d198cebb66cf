"""Whether a run that has begun may go on with another config.

It may train longer, on other devices, with other worker processes, and be logged, evaluated and
saved otherwise: none of it changes what is trained. With any other setting, two halves of two
experiments would silently become one.
"""

import json
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from perceiver_io.config import files
from perceiver_io.errors import UserError
from perceiver_io.progress import say
from perceiver_io.runtime import configuration

CHANGES = "config_changes.jsonl"
_FREE = ("checkpoint", "evaluation", "logging", "parallel")
_SHOWN = 4

Changes = dict[str, tuple[Any, Any]]
"""By path the value of before and that of now; None for a setting that is not there."""


def changes(
    workdir: Path, config: ConfigDict, allowed: Iterable[str], steps: Sequence[int]
) -> Changes:
    """What is different in the config of the run in a folder; nothing in a new run.

    Args:
        workdir: the run folder.
        config: that of now.
        allowed: settings or sections that may differ.
        steps: of the run's checkpoints.

    Raises UserError naming the settings that may not differ.
    """
    if not steps or not (workdir / "config.json").exists():
        return {}
    try:
        before = configuration.overridden(files.read_run(workdir))
    except UserError as error:
        say(f"nobody can tell whether the run began with this config: {error}")
        return {}
    found = _differences(_settings(before), _settings(config))
    free = (*_FREE, *(name.removeprefix("config.") for name in allowed))
    refused = [name for name in found if not _is_below(name, free) and not _is_longer(name, found)]
    if refused:
        shown = [f"config.{name} was {found[name][0]} and is {found[name][1]}" for name in refused]
        more = f" and {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else ""
        raise UserError(
            f"The run in {workdir} has begun with another config: {'; '.join(shown[:_SHOWN])}{more}"
            ". Leave the settings as they were; or train in another --workdir, with "
            f"--config.init_from={workdir} for the weights of this one; or let the run go on "
            f"otherwise from here by --allow_config_change={','.join(refused[:_SHOWN])}."
        )
    return found


def record(workdir: Path, found: Changes, step: int) -> None:
    """Keeps the config of before as `config_until_STEP.json`, and what was changed."""
    if not found or jax.process_index() != 0:
        return
    kept = workdir / f"config_until_{step}.json"
    if not kept.exists():
        shutil.copyfile(workdir / "config.json", kept)
    with (workdir / CHANGES).open("a") as file:
        for name, (before, now) in found.items():
            file.write(json.dumps({"step": step, "key": name, "from": before, "to": now}) + "\n")
            say(f"from step {step} on config.{name} is {now}, which was {before}")


def _settings(config: ConfigDict) -> dict[str, Any]:
    """All settings by their paths, as JSON has them."""
    found = {}

    def visit(value: Any, path: str) -> None:
        if isinstance(value, dict) and value:
            for key, entry in value.items():
                visit(entry, f"{path}.{key}" if path else key)
        else:
            found[path] = value

    visit(json.loads(config.to_json()), "")
    return found


def _differences(before: dict[str, Any], now: dict[str, Any]) -> Changes:
    both = {name: (before.get(name), now.get(name)) for name in before | now}
    return {name: pair for name, pair in both.items() if pair[0] != pair[1]}


def _is_below(name: str, sections: Iterable[str]) -> bool:
    is_below = any(name == section or name.startswith(f"{section}.") for section in sections)
    return is_below or name.endswith(".num_workers")


def _is_longer(name: str, found: Changes) -> bool:
    """Whether a setting is the number of steps, and greater, or a length that follows it."""
    steps = found.get("training.steps", (0, 0))
    follows = name == "training.steps" or name.startswith("schedule.")
    return follows and found[name] == steps and steps[1] > steps[0]
