"""Configs as the programs use them, completed with the defaults of the classes they name."""

from collections.abc import Iterable
from typing import Any

from ml_collections import ConfigDict

from perceiver_io.config import files
from perceiver_io.config.construct import SettingError, defaults, entries, lookup
from perceiver_io.errors import UserError
from perceiver_io.models import architectures
from perceiver_io.runtime import schema
from perceiver_io.storage import Folder
from perceiver_io.tasks import TASKS


def load(path: str, overrides: Iterable[str] = ()) -> ConfigDict:
    """Reads a config file as `config.files.read` does, with overrides as in `overridden`."""
    return overridden(files.read(path), overrides)


def overridden(config: ConfigDict, overrides: Iterable[str] = ()) -> ConfigDict:
    """The config after applying each `--config.any.key=VALUE`; see `config.files.overridden`.

    Settings that the config omits are added with their defaults.
    """
    return files.overridden(config, overrides, _missing_settings)


def of_run(workdir: Folder) -> ConfigDict:
    """The config of a run, complete and checked. Raises UserError naming its file."""
    try:
        config = overridden(files.read_run(workdir))
        schema.check(config)
    except SettingError as error:
        raise UserError(
            f"This version cannot read the config {workdir / 'config.json'}: {error.problem}. "
            "Copy it from a run like this one, or run the training command of this run again."
        ) from error
    return config


def _missing_settings(config: ConfigDict) -> dict[str, Any]:
    # `schema.check` finds missing sections that have no default.
    missing = defaults(schema.Config, config, "config")
    if "model" in config:
        missing["model"] = architectures.missing_settings(entries(config.model, "config.model"))
    if "task" in config:
        task = lookup(TASKS, config.task, "config.task")
        missing["task"] = defaults(task, config.task, "config.task")
        # A later override may replace data that belongs to another task.
        if _name(config.get("data")) in task.datasets:
            dataset = lookup(task.datasets, config.data, "config.data")
            missing["data"] = defaults(dataset, config.data, "config.data")
    return missing


def _name(section: Any) -> str | None:
    name = section.get("name") if isinstance(section, ConfigDict) else None
    return name if isinstance(name, str) else None
