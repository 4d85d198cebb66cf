"""Whether a run may be resumed with another config.

The number of steps may increase, and devices, worker processes, logging, evaluation and checkpoints
may change, since none of these affects what is learned. Any other change would silently join two
halves of different experiments, and must be permitted explicitly.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
from ml_collections import ConfigDict

from perceiver_io.config import files
from perceiver_io.config.construct import nearest
from perceiver_io.errors import UserError
from perceiver_io.progress import say
from perceiver_io.runtime import configuration
from perceiver_io.storage import Folder
from perceiver_io.training.disk import write_whole

CHANGES = "config_changes.jsonl"
_FREE = ("checkpoint", "evaluation", "logging", "parallel")
# Of schedules; configs derive them from the number of steps.
LENGTHS = ("steps", "boundaries")
_SHOWN = 4

Changes = dict[str, tuple[Any, Any]]
"""The previous and the new value of each setting, by path; None if it does not exist."""


def changes(
    workdir: Folder, config: ConfigDict, allowed: Iterable[str], steps: Sequence[int]
) -> Changes:
    """How the config of a run has changed since it was last started; empty for a new run.

    Args:
        workdir: the run folder.
        config: the new config.
        allowed: settings or sections that may change.
        steps: the steps of the run's checkpoints.

    Raises UserError with the settings that may not change, and for one to allow that does not
    exist.
    """
    allowed = [name.removeprefix("config.") for name in allowed]
    before, now = _previous(workdir) if steps else None, _settings(config)
    _check_exist(allowed, now | (before or {}))
    if before is None:
        return {}
    found = _differences(before, now)
    free = (*_FREE, *allowed)
    refused = [name for name in found if not _is_below(name, free) and not _is_longer(name, found)]
    if refused:
        shown = [f"config.{name} was {found[name][0]}, is {found[name][1]}" for name in refused]
        more = f" and {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else ""
        raise UserError(
            f"The run in {workdir} was started with another config: {'; '.join(shown[:_SHOWN])}"
            f"{more}. Resume it with the previous settings; or train in another --workdir, with "
            f"--config.init_from={workdir} to start from its weights; or resume with the new "
            f"settings by --allow_config_change={','.join(refused[:_SHOWN])}."
        )
    return found


def record(workdir: Folder, found: Changes, step: int) -> None:
    """Keeps the previous config as `config_until_STEP.json`, and records the changes."""
    if not found or jax.process_index() != 0:
        return
    kept = workdir / f"config_until_{step}.json"
    if not kept.exists():
        kept.write_text((workdir / "config.json").read_text())
    file = workdir / CHANGES
    text = file.read_text() if file.exists() else ""
    for name, (before, now) in found.items():
        text += json.dumps({"step": step, "key": name, "from": before, "to": now}) + "\n"
        say(f"from step {step} on, config.{name} is {now} instead of {before}")
    write_whole(file, text)


def _previous(workdir: Folder) -> dict[str, Any] | None:
    """The settings of the run so far; None if there are none that can be read."""
    if not (workdir / "config.json").exists():
        return None
    try:
        return _settings(configuration.overridden(files.read_run(workdir)))
    except UserError as error:
        say(f"the config cannot be compared with the previous one: {error}")
        return None


def _check_exist(allowed: Sequence[str], settings: Mapping[str, Any]) -> None:
    """Raises UserError for a name that is neither a setting nor a section."""
    known = {
        ".".join(parts[:count])
        for parts in (name.split(".") for name in settings)
        for count in range(1, len(parts) + 1)
    }
    for name in allowed:
        if name not in known:
            raise UserError(
                f"--allow_config_change={name:.100} is not a setting or a section of the config"
                f"{nearest(name, known)}: give names such as training.steps or schedule."
            )


def _settings(config: ConfigDict) -> dict[str, Any]:
    """All settings by path, as represented in JSON."""
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
    """Whether a setting is the number of steps, which has increased, or a length tied to it."""
    before, now = found.get("training.steps", (0, 0))
    return now > before and (
        name == "training.steps" or (name.startswith("schedule.") and name.endswith(LENGTHS))
    )
