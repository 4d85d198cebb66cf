"""Constructs objects from config sections, which are exactly their constructors' arguments."""

import dataclasses
import difflib
import functools
import importlib
import inspect
import operator
from collections.abc import Callable, Iterable, Mapping
from types import GenericAlias, NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from ml_collections import ConfigDict

from perceiver_io.config.annotations import Arguments, Choice, Limit, SameAs
from perceiver_io.errors import UserError

T = TypeVar("T")
Factory = Callable[..., T]

# A ConfigDict is a mapping in all but name.
_SECTION = (Mapping, ConfigDict)
_UNION = (Union, UnionType)


class SettingError(UserError):
    """A wrong setting in a config.

    Attributes:
        problem: the message without the remedy, which does not apply to files written by programs.
    """

    def __init__(self, problem: str, remedy: str):
        super().__init__(problem + remedy)
        self.problem = problem


def construct(factory: Factory[T], section: Mapping[str, Any], where: str, *arguments: Any) -> T:
    """Calls `factory` with the entries of a config section, except `name`, as keyword arguments.

    An entry annotated as a dataclass, or with `Arguments` or `Choice`, is a nested section and
    constructed in the same way.

    Args:
        factory: a class or function whose signature lists its keyword arguments.
        section: the config section.
        where: the section's path in the config, for error messages.
        arguments: positional-only arguments of the factory, which are not part of any section.

    Raises UserError as `check` does.
    """
    check(factory, section, where)
    return factory(*arguments, **_made(factory, section, where))


def check(factory: Factory, section: Mapping[str, Any], where: str) -> None:
    """Checks that `factory` can be called with a section, without calling it.

    Raises UserError naming the section and the missing or unexpected keys, or the value that is not
    of its annotated type or violates its annotated limits.
    """
    given, parameters = _given(section), _parameters(factory)
    for key in given:
        if key not in parameters:
            raise SettingError(
                f"{where}.{key} is not a setting of {factory.__name__}{nearest(key, parameters)}",
                f". Its settings are {listing(parameters)}.{_replacement(section, where)}",
            )
    missing = [
        name
        for name, parameter in parameters.items()
        if parameter.default is inspect.Parameter.empty and name not in given
    ]
    if missing:
        raise SettingError(
            f"{where} lacks {listing(missing)}, which {factory.__name__} needs",
            f": add it to the config file.{_replacement(section, where)}",
        )
    for key in filter(given.__contains__, parameters):
        path, value, annotation = f"{where}.{key}", given[key], parameters[key].annotation
        inner = _inner(annotation, value, path)
        if inner is not None:
            check(inner, value, path)
        elif get_origin(annotation) is Mapping:
            entries(value, path)
        elif not _fits(value, annotation):
            raise SettingError(
                f"{path} is {value!r}, but {factory.__name__} needs "
                f"{inspect.formatannotation(_plain(annotation))}",
                "; give it a value of that type.",
            )
        else:
            excess = _excess(value, annotation)
            if excess is not None:
                raise SettingError(
                    f"{path} is {value!r}, {excess}", f": set another value with --{path}=VALUE."
                )


def defaults(factory: Factory, section: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The settings that a section omits, with their defaults; also those of nested sections.

    A nested section that is omitted as a whole has the defaults of its constructor.
    """
    missing: dict[str, Any] = {}
    for name, parameter in _parameters(factory).items():
        if name not in section and dataclasses.is_dataclass(parameter.default):
            chosen = _missing_name(parameter.annotation, {})
            missing[name] = chosen | dataclasses.asdict(parameter.default)
            continue
        annotation, path = parameter.annotation, f"{where}.{name}"
        value = section[name] if name in section else _left_out(parameter)
        inner = _inner(annotation, value, path)
        if inner is not None:
            missing[name] = _missing_name(annotation, value) | defaults(inner, value, path)
        elif name not in section and value is not inspect.Parameter.empty:
            missing[name] = value
    return missing


def marked(factory: Factory, section: Mapping[str, Any], mark: Any, where: str) -> dict[str, Any]:
    """The settings whose annotation has a mark, by path, including those of nested sections.

    Omitted settings have their defaults, and `SameAs` is resolved. The section must have passed
    `check`.
    """
    found = {}
    for name, parameter in _parameters(factory).items():
        value, path = section.get(name, _left_out(parameter)), f"{where}.{name}"
        if dataclasses.is_dataclass(value):  # a default
            value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        notes, inner = _notes(parameter.annotation), _inner(parameter.annotation, value, path)
        if inner is not None:
            found |= marked(inner, value, mark, path)
        elif mark in notes:
            others = [section[note.setting] for note in notes if isinstance(note, SameAs)]
            found[path] = others[0] if others and value is None else value
    return found


def lookup(table: Mapping[str, T | str], section: Mapping[str, Any], where: str) -> T:
    """The entry of `table` chosen by a section's `name`. Raises UserError for an unknown name.

    An entry that is a dotted name, `package.module.NAME`, is imported only when it is chosen.
    """
    given = entries(section, where)
    if "name" not in given:
        raise SettingError(f"{where}.name is missing", f": set it to one of {listing(table)}.")
    name = given["name"]
    if not isinstance(name, str) or name not in table:
        raise SettingError(
            f"{where}.name is {name!r}, which does not exist{nearest(name, table)}",
            f". Choose one of {listing(table)}.",
        )
    entry = table[name]
    if not isinstance(entry, str):
        return entry
    module, _, attribute = entry.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


def entries(section: Any, where: str) -> dict[str, Any]:
    """The entries of a section. Raises UserError if the value is not a section."""
    if not isinstance(section, _SECTION):
        raise SettingError(
            f"{where} is {section!r}, but must be a section", ": write it as dict(...)."
        )
    return dict(section.items())


def nearest(word: str, candidates: Iterable[str]) -> str:
    """A suggestion for an error message: ` (did you mean 'peak'?)`, or an empty string."""
    matches = difflib.get_close_matches(str(word), list(candidates), n=1)
    return f" (did you mean {matches[0]!r}?)" if matches else ""


def listing(names: Iterable[str]) -> str:
    """Names for an error message, in the given order."""
    return ", ".join(map(str, names)) or "none"


def _made(factory: Factory, section: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The keyword arguments of a checked section, with nested sections constructed."""
    given, parameters = _given(section), _parameters(factory)
    for key, value in given.items():
        path = f"{where}.{key}"
        inner = _inner(parameters[key].annotation, value, path)
        if inner is not None:
            given[key] = inner(**_made(inner, value, path))
    return given


def _given(section: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in section.items() if key != "name"}


def _parameters(factory: Factory) -> dict[str, inspect.Parameter]:
    """The keyword arguments of a factory."""
    return {
        name: parameter
        for name, parameter in inspect.signature(factory).parameters.items()
        if parameter.kind is not inspect.Parameter.POSITIONAL_ONLY
    }


def _inner(annotation: Any, value: Any, where: str) -> Factory | None:
    """The factory of a nested section; None for other values, and for unannotated mappings."""
    if not isinstance(value, _SECTION):
        return None
    for alternative in get_args(annotation) if get_origin(annotation) in _UNION else (annotation,):
        for note in _notes(alternative):
            if isinstance(note, Arguments):
                return note.factory
            if isinstance(note, Choice):
                return lookup(note.factories, {**_missing_name(alternative, value), **value}, where)
        if isinstance(alternative, type) and dataclasses.is_dataclass(alternative):
            return alternative
    return None


def _missing_name(annotation: Any, section: Mapping[str, Any]) -> dict[str, str]:
    """The default `name`, if a section with a choice has none."""
    defaults = [x.default for x in _notes(annotation) if isinstance(x, Choice) and x.default]
    return {"name": defaults[0]} if defaults and "name" not in section else {}


def _left_out(parameter: inspect.Parameter) -> Any:
    """What stands for an omitted setting: its default, or an empty section."""
    if parameter.default is not inspect.Parameter.empty:
        return parameter.default
    is_section = dataclasses.is_dataclass(parameter.annotation) or any(
        isinstance(note, Arguments) or (isinstance(note, Choice) and note.default)
        for note in _notes(parameter.annotation)
    )
    return {} if is_section else parameter.default


def _notes(annotation: Any) -> tuple[Any, ...]:
    """The metadata of an `Annotated` type."""
    return annotation.__metadata__ if get_origin(annotation) is Annotated else ()


def _plain(annotation: Any) -> Any:
    """The annotation without any metadata, at any depth."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _plain(arguments[0])
    if origin in _UNION:
        return functools.reduce(operator.or_, map(_plain, arguments))
    if origin is tuple:
        return GenericAlias(tuple, tuple(map(_plain, arguments)))
    return annotation


def _fits(value: Any, annotation: Any) -> bool:
    """Whether a value is of an annotated type; types that configs cannot express always fit."""
    annotation = _plain(annotation)
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in _UNION:
        return any(_fits(value, argument) for argument in arguments)
    if origin is Literal:
        return value in arguments
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        elements = _elements(annotation, value)
        return len(value) == len(elements) and all(map(_fits, value, elements))
    if annotation in (int, float):
        number = int if annotation is int else (int, float)
        return isinstance(value, number) and not isinstance(value, bool)
    if annotation in (bool, str, NoneType) or dataclasses.is_dataclass(annotation):
        return isinstance(value, annotation)
    return True


def _excess(value: Any, annotation: Any) -> str | None:
    """The limit that a value of the annotated type violates, as a clause; None if it is valid."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        excess = _excess(value, arguments[0])
        if excess is not None:
            return excess
        for note in _notes(annotation):
            if isinstance(note, Limit) and not note.holds(value):
                return f"which must be {note.words}"
    if origin in _UNION:
        found = [_excess(value, x) for x in arguments if _fits(value, x)]
        return None if None in found else found[0]
    if origin is tuple:
        for element, inner in zip(value, _elements(annotation, value), strict=True):
            excess = _excess(element, inner)
            if excess is not None:
                return excess.replace("which", "each of which", 1)
    return None


def _elements(annotation: Any, value: tuple[Any, ...]) -> tuple[Any, ...]:
    """The annotations of a tuple's elements, one per element also for `tuple[X, ...]`."""
    arguments = get_args(annotation)
    return arguments[:1] * len(value) if arguments[-1:] == (Ellipsis,) else arguments


def _replacement(section: Mapping[str, Any], where: str) -> str:
    """How to choose another `name`, with other settings, from the command line."""
    if "name" not in section:
        return ""
    path = where.removeprefix("config.")
    return f""" Or replace the section: --config.{path}="{{'name': {section["name"]!r}, ...}}"."""
