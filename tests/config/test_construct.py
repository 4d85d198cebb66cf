"""Sections become objects; what does not fit is named."""

import dataclasses
import re
from collections.abc import Mapping
from typing import Literal

import pytest
from ml_collections import ConfigDict

from perceiver_io.config.construct import construct, defaults, lookup
from perceiver_io.errors import UserError


def make(*, width, depth=2):
    return width, depth


def test_a_section_is_the_keywords():
    assert construct(make, dict(name="x", width=3), "config.model") == (3, 2)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        (
            dict(widht=3),
            r"config.model.widht is not a setting of make \(did you mean 'width'\?\)\. "
            r"Its settings are width, depth\.",
        ),
        (dict(depth=3), "config.model lacks width, which make needs"),
    ],
)
def test_keywords_that_do_not_fit(section, message):
    with pytest.raises(UserError, match=message):
        construct(make, section, "config.model")


def typed(
    *,
    size: tuple[int, int] = (1, 1),
    names: tuple[str, ...] = (),
    rate: float | None = 0.5,
    steps: int = 1,
    mode: Literal["max", "min"] = "max",
    flip: bool = True,
    other: Mapping = (),
):
    return locals()


@pytest.mark.parametrize(
    "section",
    [
        dict(size=(3, 4)),
        dict(names=()),
        dict(names=("a", "b", "c")),
        dict(rate=None),
        dict(rate=1),
        dict(mode="min", flip=False, steps=0),
        dict(other=ConfigDict({"a": 1})),
    ],
)
def test_values_of_the_annotated_type(section):
    assert construct(typed, section, "config.data").items() >= section.items()


@pytest.mark.parametrize(
    ("section", "message"),
    [
        (dict(size=(8,)), r"config.data.size is (8,), but typed needs tuple[int, int]"),
        (dict(size=(8, "a")), "config.data.size is (8, 'a'), but"),
        (dict(size=8), "config.data.size is 8, but"),
        (dict(names=("a", 1)), "config.data.names is ('a', 1), but typed needs tuple[str, ...]"),
        (dict(rate="a"), "config.data.rate is 'a', but typed needs float | None"),
        (dict(steps=1.5), "config.data.steps is 1.5, but typed needs int"),
        (dict(steps=True), "config.data.steps is True, but typed needs int"),
        (dict(steps=None), "config.data.steps is None, but typed needs int"),
        (dict(flip=1), "config.data.flip is 1, but typed needs bool"),
        (dict(mode="mean"), "config.data.mode is 'mean', but"),
    ],
)
def test_values_of_another_type(section, message):
    with pytest.raises(UserError, match=re.escape(message)):
        construct(typed, section, "config.data")


@dataclasses.dataclass(frozen=True)
class Layer:
    width: int
    rate: float = 0.1


@dataclasses.dataclass(frozen=True)
class Stack:
    layer: Layer
    depth: int = 2


def nested(*, stack: Stack, form: Layer = Layer(7), size: int = 3):
    return stack, form, size


@pytest.mark.parametrize("section_type", [dict, ConfigDict])
def test_an_entry_of_a_dataclass_is_a_section_of_its_own(section_type):
    section = section_type({"name": "x", "stack": {"layer": {"width": 4}, "depth": 5}})
    assert construct(nested, section, "config.model") == (Stack(Layer(4), 5), Layer(7), 3)
    assert construct(nested, dict(stack=Stack(Layer(1))), "config.model")[0] == Stack(Layer(1))


@pytest.mark.parametrize(
    ("section", "message"),
    [
        (dict(stack=dict(layer=dict(widht=3))), "config.model.stack.layer.widht is not a setting"),
        (dict(stack=dict(layer={})), "config.model.stack.layer lacks width, which Layer needs"),
        (dict(stack=dict(layer=dict(width="a"))), "config.model.stack.layer.width is 'a', but"),
        (dict(stack=3), "config.model.stack is 3, but nested needs"),
    ],
)
def test_inner_sections_that_do_not_fit(section, message):
    with pytest.raises(UserError, match=message):
        construct(nested, section, "config.model")


@pytest.mark.parametrize("section_type", [dict, ConfigDict])
def test_defaults_of_what_is_left_out_however_deep(section_type):
    section = section_type({"name": "x", "stack": {"layer": {"width": 4}}})
    missing = {"stack": {"layer": {"rate": 0.1}, "depth": 2}, "size": 3}
    found = defaults(nested, section)
    assert {key: found[key] for key in missing} == missing
    assert found["form"] == {"rate": 0.1}
    full = {"stack": {"layer": {"width": 1, "rate": 2}, "depth": 3}, "form": Layer(1), "size": 3}
    assert defaults(nested, section_type(full)) == {"stack": {"layer": {}}}


def test_names():
    table = {"mesh": 1, "pmap": 2}
    assert lookup(table, dict(name="pmap"), "config.parallel") == 2
    with pytest.raises(UserError, match="'mehs', which does not exist .did you mean 'mesh'"):
        lookup(table, dict(name="mehs"), "config.parallel")
    with pytest.raises(UserError, match="config.parallel.name is missing.*mesh, pmap"):
        lookup(table, {}, "config.parallel")
