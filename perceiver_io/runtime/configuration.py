"""Configs as the programs use them, completed with the defaults of the classes they name."""

from collections.abc import Iterable
from typing import Any

from ml_collections import ConfigDict

from perceiver_io.config import files
from perceiver_io.config.construct import defaults, lookup
from perceiver_io.models import architectures
from perceiver_io.tasks import TASKS


def load(path: str, overrides: Iterable[str] = ()) -> ConfigDict:
    """Reads a config file as `config.files.read` does, with overrides as in `overridden`."""
    return overridden(files.read(path), overrides)


def overridden(config: ConfigDict, overrides: Iterable[str] = ()) -> ConfigDict:
    """The config after applying each `--config.any.key=VALUE`; see `config.files.overridden`.

    Settings of the model, the task and the data that the config omits are added with their
    defaults.
    """
    return files.overridden(config, overrides, _missing_settings)


def _missing_settings(config: ConfigDict) -> dict[str, Any]:
    missing = {}  # `schema.check` finds missing sections.
    if "model" in config:
        missing["model"] = architectures.missing_settings(config.model)
    if "task" in config:
        task = lookup(TASKS, config.task, "config.task")
        missing["task"] = defaults(task, config.task, "config.task")
        # A later override may replace data that belongs to another task.
        if config.get("data", {}).get("name") in task.datasets:
            dataset = lookup(task.datasets, config.data, "config.data")
            missing["data"] = defaults(dataset, config.data, "config.data")
    return missing
