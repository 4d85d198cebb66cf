"""From a config section to an object: the section is exactly the keyword arguments."""

import dataclasses
import difflib
import importlib
import inspect
from collections.abc import Callable, Iterable, Mapping
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

from ml_collections import ConfigDict

from perceiver_io.errors import UserError

T = TypeVar("T")

# A ConfigDict is a mapping in all but name.
_SECTION = (Mapping, ConfigDict)


def construct(factory: Callable[..., T], section: Mapping[str, Any], where: str) -> T:
    """Calls `factory` with the entries of a config section, all but `name`, as keywords.

    An entry that is annotated as a dataclass is a section of its own, and constructed likewise.

    Args:
        factory: a class or function whose signature spells out its keywords.
        section: the config section.
        where: the section's name in the config, for the error.

    Raises UserError naming the section and the keywords that are missing or unexpected, or the
    value that is not of its annotated type.
    """
    given = {key: value for key, value in section.items() if key != "name"}
    parameters = {
        name: parameter
        for name, parameter in inspect.signature(factory).parameters.items()
        if parameter.kind is not inspect.Parameter.POSITIONAL_ONLY
    }
    for key in given:
        if key not in parameters:
            raise UserError(
                f"{where}.{key} is not a setting of {factory.__name__}{nearest(key, parameters)}. "
                f"Its settings are {listing(parameters)}.{_replacement(section, where)}"
            )
    missing = [
        name
        for name, parameter in parameters.items()
        if parameter.default is inspect.Parameter.empty and name not in given
    ]
    if missing:
        raise UserError(
            f"{where} lacks {listing(missing)}, which {factory.__name__} needs: add it to the "
            f"config file.{_replacement(section, where)}"
        )
    for key, value in given.items():
        annotation = parameters[key].annotation
        if dataclasses.is_dataclass(annotation) and isinstance(value, _SECTION):
            given[key] = construct(annotation, value, f"{where}.{key}")
            continue
        if not _fits(value, annotation):
            raise UserError(
                f"{where}.{key} is {value!r}, but {factory.__name__} needs "
                f"{inspect.formatannotation(annotation)}; give it a value of that type."
            )
    return factory(**given)


def defaults(factory: Callable[..., Any], section: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that a section leaves out, with their defaults; inner sections likewise."""
    missing = {}
    for name, parameter in inspect.signature(factory).parameters.items():
        default, inner = parameter.default, section.get(name, {})
        if dataclasses.is_dataclass(parameter.annotation) and isinstance(inner, _SECTION):
            missing[name] = defaults(parameter.annotation, inner)
        elif name not in section and default is not inspect.Parameter.empty:
            missing[name] = default
    return missing


def lookup(table: Mapping[str, T | str], section: Mapping[str, Any], where: str) -> T:
    """The entry of `table` that a section's `name` chooses. Raises UserError listing the names.

    An entry that is a dotted name, `package.module.NAME`, is imported: nothing that is not chosen
    takes time to load.
    """
    if "name" not in section:
        raise UserError(f"{where}.name is missing: set it to one of {listing(table)}.")
    name = section["name"]
    if name not in table:
        raise UserError(
            f"{where}.name is {name!r}, which does not exist{nearest(name, table)}. "
            f"Choose one of {listing(table)}."
        )
    entry = table[name]
    if not isinstance(entry, str):
        return entry
    module, _, attribute = entry.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


def nearest(word: str, candidates: Iterable[str]) -> str:
    """A question to put into an error: ` (did you mean 'peak'?)`, or nothing."""
    matches = difflib.get_close_matches(str(word), list(candidates), n=1)
    return f" (did you mean {matches[0]!r}?)" if matches else ""


def _fits(value: Any, annotation: Any) -> bool:
    """Whether a value is of an annotated type, as far as configs have them; others always fit."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, UnionType):
        return any(_fits(value, argument) for argument in arguments)
    if origin is Literal:
        return value in arguments
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        if arguments[-1] is Ellipsis:
            arguments = arguments[:1] * len(value)
        return len(value) == len(arguments) and all(map(_fits, value, arguments))
    if annotation in (int, float):
        number = int if annotation is int else (int, float)
        return isinstance(value, number) and not isinstance(value, bool)
    if annotation in (bool, str, NoneType) or dataclasses.is_dataclass(annotation):
        return isinstance(value, annotation)
    return True


def _replacement(section: Mapping[str, Any], where: str) -> str:
    """How to choose another `name`, whose settings are others, from the command line."""
    if "name" not in section:
        return ""
    path = where.removeprefix("config.")
    return f""" Or replace the section: --config.{path}="{{'name': {section["name"]!r}, ...}}"."""


def listing(names: Iterable[str]) -> str:
    """Names for an error message, in their order."""
    return ", ".join(map(str, names)) or "none"
