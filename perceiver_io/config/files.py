"""Reads configs from files and run folders, and applies overrides `--config.any.key=VALUE`."""

import ast
import contextlib
import functools
import importlib.util
import json
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from ml_collections import ConfigDict, FieldReference
from ml_collections.config_dict import placeholder

from perceiver_io.config.construct import listing, nearest
from perceiver_io.errors import UserError
from perceiver_io.storage import Folder

OVERRIDE = "--config."


def read(path: str) -> ConfigDict:
    """The config in `FILE.py[:PRESET]`, or in the `config.json` of a run.

    Raises UserError if there is no such file or preset, or if it is not a config file.
    """
    file, preset = (path, "") if Path(path).is_file() else _without_preset(path)
    if not Path(file).is_file():
        raise UserError(
            f"There is no config file {file}. The experiments of this repository are "
            f"{listing(sorted(map(str, Path('configs').glob('*.py'))))}."
        )
    if file.endswith(".json"):
        return _read_json(Path(file))
    module = _imported(file)
    presets = getattr(module, "PRESETS", {})
    if preset and preset not in presets:
        raise UserError(
            f"{file} has no preset {preset!r}{nearest(preset, presets)}. "
            f"Its presets are {listing(presets)}."
        )
    with _errors_explained(file):
        config = module.get_config(preset) if preset else module.get_config()
    if not isinstance(config, dict | ConfigDict):
        raise UserError(
            f"{file}, line {module.get_config.__code__.co_firstlineno}: get_config() returns "
            f"{config!r}, which is not a ConfigDict. End it with `return config`."
        )
    if type(config) is not ConfigDict:  # a dict, or one that is frozen
        config = ConfigDict(config)
    return config.unlock()


def reported(path: str) -> dict[str, dict[str, float]]:
    """Results that a config file states in `REPORTED`, by row and preset; none in others."""
    file = path if Path(path).is_file() else _without_preset(path)[0]
    return getattr(_imported(file), "REPORTED", {}) if file.endswith(".py") else {}


def read_run(workdir: Folder) -> ConfigDict:
    """The config of a run, read from its folder. Raises UserError if there is no run."""
    path = workdir / "config.json"
    if not path.exists():
        raise UserError(
            f"--workdir={workdir} is not a run folder: it has no config.json. Train first: "
            "python -m experiments.train --config=FILE --workdir=DIR."
        )
    config = _read_json(path)
    if "training" not in config:
        raise UserError(
            f"--workdir={workdir} is not a run folder: its config.json describes something else. "
            "To use published weights, give them to `experiments.evaluate` or `predict` by "
            "--weights."
        )
    return config


def overridden(
    config: ConfigDict,
    overrides: Iterable[str],
    missing: Callable[[ConfigDict], dict[str, Any]] = lambda config: {},
) -> ConfigDict:
    """The config with overrides `--config.any.key=VALUE` applied in order, references resolved.

    A dict replaces a section as a whole: `--config.parallel={'name':'pmap'}`.

    Args:
        config: the config as read.
        overrides: arguments of the form above.
        missing: returns the settings that a config omits, with their defaults, by section; these
            are filled in, and can be overridden.

    Raises UserError for a key that does not exist, a value of the wrong type, or two overrides of
    settings that have the same reference.
    """
    config = _separate(config)
    filled = _complete(config, missing(config))
    given: dict[str, tuple[str, Any]] = {}
    for override in overrides:
        key, equals, value = override.removeprefix(OVERRIDE).partition("=")
        if not equals:
            raise UserError(f"{override} has no value; write {override}=VALUE.")
        _set(config, key, value)
        given = {other: kept for other, kept in given.items() if not _is_within(other, key)}
        given[key] = override, _at(config, key)
        _check_kept(config, given, override)
        # With another name, or in a section that was replaced, the defaults are different.
        for path in filled:
            if not _is_within(path, key):
                _remove(config, path)
        filled = _complete(config, missing(config))
    return _resolved(config)


def _separate(config: ConfigDict) -> ConfigDict:
    """The config, unlocked, with each section an object of its own; references are kept.

    Of a dict that a file uses for two sections, ConfigDict makes one: changing one of the sections
    would change the other.
    """
    separate = ConfigDict().unlock()
    for key, value in config.items(preserve_field_references=True):
        separate[key] = _separate(value) if isinstance(value, ConfigDict) else value
    return separate


def _without_preset(path: str) -> tuple[str, str]:
    """(FILE, PRESET) from FILE:PRESET; the preset is empty if there is none."""
    file, colon, preset = path.rpartition(":")
    return (file, preset) if colon else (path, "")


def _imported(file: str) -> ModuleType:
    """The module of a config file. Raises UserError if it is not one."""
    spec = importlib.util.spec_from_file_location(Path(file).stem, file)
    if spec is None or spec.loader is None:
        raise UserError(
            f"{file} is not a config file: give a FILE.py, or the config.json of a run."
        )
    module = importlib.util.module_from_spec(spec)
    with _errors_explained(file):
        spec.loader.exec_module(module)
    if not callable(getattr(module, "get_config", None)):
        raise UserError(
            f"{file} is not a config file: it has no function get_config() that returns a "
            "ConfigDict. configs/quickstart.py is an example of one."
        )
    return module


@contextlib.contextmanager
def _errors_explained(file: str) -> Iterator[None]:
    """Turns whatever a config file raises into a UserError that names the line."""
    try:
        yield
    except SyntaxError as error:
        raise UserError(
            f"{error.filename} cannot be read: line {error.lineno}: {error.msg}. Fix that line."
        ) from error
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        lines = [f"line {frame.lineno}" for frame in frames if frame.filename == file]
        message = " ".join(str(error).split())
        raise UserError(
            f"{file} cannot be read: {', '.join([*lines[-1:], type(error).__name__])}: {message}. "
            "Fix that line."
        ) from error


def _read_json(path: Folder) -> ConfigDict:
    try:
        config = _from_plain(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, RecursionError) as error:
        config = error
    if isinstance(config, ConfigDict):
        _renew(config)
    else:
        raise UserError(
            f"{path} is damaged: it is not the JSON of a config ({config}). Run the training "
            "command of this run again, which rewrites it, or copy it from a similar run."
        )
    return config


def _complete(section: ConfigDict, missing: dict[str, Any]) -> list[str]:
    """Adds what is missing; returns the paths of what was added, such as `a.b.c`."""
    filled = []
    for key, value in missing.items():
        if isinstance(value, dict):
            if key not in section:
                section[key] = {}
            filled += [f"{key}.{path}" for path in _complete(section[key], value)]
        else:
            section[key] = _from_plain(value)
            filled.append(key)
    return filled


def _is_within(path: str, section: str) -> bool:
    """Whether a path is that of a section, or below it."""
    return f"{path}.".startswith(f"{section}.")


def _at(config: ConfigDict, path: str) -> Any:
    return functools.reduce(lambda section, name: section[name], path.split("."), config)


def _check_kept(config: ConfigDict, given: Mapping[str, tuple[str, Any]], latest: str) -> None:
    """Raises UserError if the latest override has changed what an earlier one has set."""
    for key, (override, value) in given.items():
        found = _at(config, key)
        if not isinstance(found, ConfigDict) and found != value:
            raise UserError(
                f"{latest} also changes config.{key}, which follows it in this config, but is set "
                f"by {override}: give one of the two, or replace its section as a whole with a "
                "dict."
            )


def _remove(section: ConfigDict, path: str) -> None:
    """Removes what `_complete` added, and sections that are then empty."""
    name, _, rest = path.partition(".")
    if rest:
        _remove(section[name], rest)
    if not rest or not section[name]:
        del section[name]


def _renew(config: ConfigDict) -> None:
    """Converts settings that older runs lack, or have in another form."""
    model, data = _part(config, "model"), _part(config, "data")
    stack = _part(model, "encoder", "latent_stack")
    remat = stack.get("remat")
    if isinstance(remat, bool):
        del stack["remat"]
        stack["remat"] = "all" if remat else "none"
    if "attention" in model and "implementation" not in _part(model, "attention"):
        del model["attention"]
    pixels = _part(model, "inputs", "inputs") or _part(model, "inputs") or model
    if isinstance(data.get("mean"), tuple) and "image_channels" not in pixels:
        pixels["image_channels"] = len(data["mean"])
    is_convnet = model.get("name") == "convnet_classifier"
    if is_convnet and "image_size" not in model and "image_size" in data:
        model["image_size"] = data["image_size"]


def _part(section: ConfigDict, *names: str) -> ConfigDict:
    """A nested section; an empty one if there is none."""
    for name in names:
        section = section.get(name)
        if not isinstance(section, ConfigDict):
            return ConfigDict()
    return section


def _set(config: ConfigDict, key: str, text: str) -> None:
    """Sets `a.b.c` in the config to a literal of the same type as the value that it replaces."""
    *sections, last = key.split(".")
    section, path = config, "config"
    for name in sections:
        section = _entry(section, name, path)
        path = f"{path}.{name}"
        if not isinstance(section, ConfigDict):
            raise UserError(f"{OVERRIDE}{key}: {path} is a value, not a section.")
    old = _entry(section, last, path)
    if isinstance(old, ConfigDict):
        section[last] = _section(key, text, old)
        return
    wanted = section.get_type(last)
    try:
        section[last] = _parsed(text, wanted)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"{OVERRIDE}{key}={text} is of the wrong type: {path}.{last} must be of type "
            f"{wanted.__name__}, like {old!r}."
        ) from error


def _entry(section: ConfigDict, name: str, path: str) -> Any:
    if name not in section:
        raise UserError(
            f"{path}.{name} is not a key of the config{nearest(name, section)}. "
            f"{path} has {listing(section)}."
        )
    return section[name]


def _section(key: str, text: str, old: ConfigDict) -> ConfigDict:
    """The section that replaces an old one."""
    value = _literal(text)
    if not isinstance(value, dict) or not all(isinstance(name, str) for name in value):
        raise UserError(
            f"{OVERRIDE}{key} is a section; set one of its keys: {listing(old)}. Or replace it as "
            f"a whole with a dict, as in {OVERRIDE}parallel=\"{{'name': 'pmap'}}\"."
        )
    return _from_plain(value)


def _parsed(text: str, wanted: type) -> Any:
    if issubclass(wanted, str) and text != "None":
        return text
    value = _literal(text)
    if isinstance(value, list) or (issubclass(wanted, tuple) and not isinstance(value, tuple)):
        value = tuple(value) if isinstance(value, list) else (value,)
    if issubclass(wanted, bool) != isinstance(value, bool) and wanted not in (object, type(None)):
        raise TypeError
    if wanted is int and not (value is None or isinstance(value, int)):
        raise TypeError
    return value


def _literal(text: str) -> Any:
    """The value of a Python literal; any other text unchanged."""
    with contextlib.suppress(SyntaxError, ValueError, MemoryError, RecursionError):
        return ast.literal_eval(text)
    return text


def _from_plain(value: Any) -> Any:
    """Turns dicts into sections and lists into tuples; None may later be set to anything."""
    if isinstance(value, dict):
        return ConfigDict({key: _from_plain(entry) for key, entry in value.items()})
    if isinstance(value, list):
        return tuple(map(_from_plain, value))
    return placeholder(object) if value is None else value


def _resolved(value: Any) -> Any:
    """A copy with plain values in place of all references, including those inside tuples."""
    if isinstance(value, ConfigDict):
        return ConfigDict({key: _resolved(value[key]) for key in value})
    if isinstance(value, tuple):
        return tuple(map(_resolved, value))
    return value.get() if isinstance(value, FieldReference) else value
