"""What the programs share: the config with its overrides, objects from its sections, errors."""

import ast
import contextlib
import importlib.util
import inspect
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grain
import jax
import numpy as np
from absl import app, flags
from ml_collections import ConfigDict, FieldReference
from ml_collections.config_dict import placeholder

from perceiver_io.construct import construct, listing, lookup, nearest
from perceiver_io.data.dataset import Dataset
from perceiver_io.errors import UserError
from perceiver_io.tasks import TASKS
from perceiver_io.tasks.task import Task

_OVERRIDE = "--config."


def run(main: Callable[[], None]) -> None:
    """Parses the flags and calls `main`; a UserError becomes one paragraph and exit status 2."""

    def guarded(_) -> None:
        try:
            main()
        except UserError as error:
            # Not sys.exit: with several processes, the others may never come to the end.
            print(f"error: {error}", file=sys.stderr, flush=True)
            sys.exit(2)

    app.run(guarded, flags_parser=_parse)


_overrides: list[str] = []


def _parse(argv: list[str]) -> list[str]:
    """Absl's flags, with the config's overrides set aside."""
    _overrides[:] = [argument for argument in argv if argument.startswith(_OVERRIDE)]
    try:
        rest = flags.FLAGS([argument for argument in argv if argument not in _overrides])
        if len(rest) > 1:
            raise UserError(f"{rest[1]!r} is not a flag; flags look like --name=value.")
    except (flags.Error, UserError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    return rest


def config_from_flags(path: str) -> ConfigDict:
    """The config file `FILE.py[:PRESET]`, or a run's `config.json`, with the overrides applied."""
    config = read_config(path)
    for override in _overrides:
        key, equals, value = override.removeprefix(_OVERRIDE).partition("=")
        if not equals:
            raise UserError(f"{override} has no value; write {override}=VALUE.")
        _set(config, key, value)
    return _resolved(config)


def read_config(path: str) -> ConfigDict:
    """The config file `FILE.py[:PRESET]`, or a run's `config.json`.

    Raises UserError if there is no such file or preset.
    """
    file, _, preset = path.partition(":")
    if not Path(file).is_file():
        raise UserError(
            f"There is no config file {file}. The experiments of this repository are "
            f"{listing(sorted(map(str, Path('configs').glob('*.py'))))}."
        )
    if file.endswith(".json"):
        return _from_json(json.loads(Path(file).read_text()))
    spec = importlib.util.spec_from_file_location(Path(file).stem, file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not preset:
        return module.get_config()
    presets = getattr(module, "PRESETS", {})
    if preset not in presets:
        raise UserError(
            f"{file} has no preset {preset!r}{nearest(preset, presets)}. "
            f"Its presets are {listing(presets)}."
        )
    return module.get_config(preset)


def build_task(config: ConfigDict) -> Task:
    """The task of `config.task`."""
    return construct(lookup(TASKS, config.task, "config.task"), config.task, "config.task")


def build_dataset(config: ConfigDict, task: Task) -> Dataset:
    """The dataset of `config.data`, one of the task's."""
    factory = lookup(task.datasets, config.data, "config.data")
    return construct(factory, config.data, "config.data")


def load(
    dataset: Dataset, split: str, *, batch_size: int, seed: int
) -> grain.DatasetIterator:
    """This process's endless training batches; `batch_size` is its share."""
    shard = (jax.process_index(), jax.process_count())
    batches = dataset.load(split, batch_size=batch_size, training=True, seed=seed, shard=shard)
    return iter(batches)


def checked(batch: dict[str, np.ndarray], dataset: Dataset) -> dict[str, np.ndarray]:
    """The first batch of a run. Raises UserError if it is not as its dataset promises."""
    size = len(batch["valid"])
    promised = {name: (tuple(s), np.dtype(d)) for name, (s, d) in dataset.batch_spec(size).items()}
    found = {name: (array.shape, array.dtype) for name, array in batch.items()}
    if found != promised:
        raise UserError(
            f"The first batch of {type(dataset).__name__} is {found}, but its batch_spec promises "
            f"{promised}; make the two agree."
        )
    return batch


def _set(config: ConfigDict, key: str, text: str) -> None:
    """Sets `a.b.c` of the config to a literal, keeping the type of the value that it replaces."""
    *sections, last = key.split(".")
    section, path = config, "config"
    for name in sections:
        section = _entry(section, name, path)
        path = f"{path}.{name}"
        if not isinstance(section, ConfigDict):
            raise UserError(f"{_OVERRIDE}{key}: {path} is a value, not a section.")
    old = _entry(section, last, path)
    wanted = section.get_type(last)
    try:
        section[last] = _parsed(text, wanted)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"{_OVERRIDE}{key}={text} is of the wrong type: {path}.{last} is a {wanted.__name__}, "
            f"such as {old!r}."
        ) from error


def _entry(section: ConfigDict, name: str, path: str) -> Any:
    if name not in section:
        raise UserError(
            f"{path}.{name} is not a key of the config{nearest(name, section)}. "
            f"{path} has {listing(section)}."
        )
    return section[name]


def _parsed(text: str, wanted: type) -> Any:
    if issubclass(wanted, str) and text != "None":
        return text
    value = text
    with contextlib.suppress(SyntaxError, ValueError):
        value = ast.literal_eval(text)
    if isinstance(value, list) or (issubclass(wanted, tuple) and not isinstance(value, tuple)):
        value = tuple(value) if isinstance(value, list) else (value,)
    if issubclass(wanted, bool) != isinstance(value, bool) and wanted not in (object, type(None)):
        raise TypeError
    if wanted is int and not (value is None or isinstance(value, int)):
        raise TypeError
    return value


def _from_json(value: Any) -> Any:
    """JSON knows no tuples, and no types of what is not set."""
    if isinstance(value, dict):
        return ConfigDict({key: _from_json(entry) for key, entry in value.items()})
    if isinstance(value, list):
        return tuple(map(_from_json, value))
    return placeholder(object) if value is None else value


def _resolved(value: Any) -> Any:
    """A copy with plain values for all references, those inside tuples included."""
    if isinstance(value, ConfigDict):
        return ConfigDict({key: _resolved(value[key]) for key in value})
    if isinstance(value, tuple):
        return tuple(map(_resolved, value))
    return value.get() if isinstance(value, FieldReference) else value
