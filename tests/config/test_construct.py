"""Objects built from sections; errors name what is wrong."""

import dataclasses
import re
from collections.abc import Mapping
from typing import Annotated, Literal

import pytest
from ml_collections import ConfigDict

from perceiver_io.config.annotations import (
    ASCENDING,
    Arguments,
    Choice,
    Count,
    Fraction,
    Natural,
    NonNegative,
    Positive,
    Probability,
    Rate,
    Seed,
    Size,
    within,
)
from perceiver_io.config.construct import check, construct, defaults, lookup, marked
from perceiver_io.errors import UserError


def make(*, width, depth=2):
    return width, depth


def test_a_section_holds_keyword_arguments():
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
def test_wrong_keyword_arguments(section, message):
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
def test_a_dataclass_entry_is_a_section(section_type):
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
def test_wrong_inner_sections(section, message):
    with pytest.raises(UserError, match=message):
        construct(nested, section, "config.model")


@pytest.mark.parametrize("section_type", [dict, ConfigDict])
def test_defaults_of_omitted_settings_at_any_depth(section_type):
    section = section_type({"name": "x", "stack": {"layer": {"width": 4}}})
    missing = {"stack": {"layer": {"rate": 0.1}, "depth": 2}, "size": 3}
    found = defaults(nested, section, "config")
    assert {key: found[key] for key in missing} == missing
    assert found["form"] == {"width": 7, "rate": 0.1}
    full = {"stack": {"layer": {"width": 1, "rate": 2}, "depth": 3}, "form": Layer(1), "size": 3}
    assert defaults(nested, section_type(full), "config") == {"stack": {"layer": {}}}


def test_names():
    table = {"mesh": 1, "pmap": 2}
    assert lookup(table, dict(name="pmap"), "config.parallel") == 2
    with pytest.raises(UserError, match="'mehs', which does not exist .did you mean 'mesh'"):
        lookup(table, dict(name="mehs"), "config.parallel")
    with pytest.raises(UserError, match="config.parallel.name is missing.*mesh, pmap"):
        lookup(table, {}, "config.parallel")


def limited(
    *,
    count: Count = 1,
    natural: Natural = 0,
    seed: Seed = 0,
    positive: Positive = 1.0,
    amount: NonNegative = 0.0,
    rate: Rate | None = None,
    probability: Probability = 0.0,
    fraction: Fraction = 1.0,
    angle: Annotated[float, within(0, 180)] = 0.0,
    size: Size = (1, 1),
    steps: tuple[Natural, ...] = (),
    pair: Annotated[tuple[Fraction, Fraction], ASCENDING] = (0.1, 1.0),
    resolution: Annotated[Size | None, "a mark"] = None,
):
    return locals()


INF, NAN = float("inf"), float("nan")


@pytest.mark.parametrize(
    "section",
    [
        dict(count=1, natural=0, seed=2**32 - 1, positive=1e6, amount=0, rate=0),
        dict(rate=0.999, probability=1, fraction=1, angle=180.0),
        dict(rate=None, steps=(0, 5), size=(3, 4), pair=(0.5, 0.5)),
        dict(resolution=(3, 4)),
        dict(resolution=None),
    ],
)
def test_values_within_limits(section):
    assert construct(limited, section, "config.data").items() >= section.items()


@pytest.mark.parametrize(
    ("section", "message"),
    [
        (dict(count=0), "config.data.count is 0, which must be at least 1 and below 2**31: set "
         "another value with --config.data.count=VALUE."),
        (dict(count=2**31), "count is 2147483648, which must be at least 1 and below 2**31:"),
        (dict(natural=-1), "natural is -1, which must be at least 0 and below 2**63:"),
        (dict(seed=2**32), "seed is 4294967296, which must be from 0 to 2**32 - 1:"),
        (dict(positive=0.0), "positive is 0.0, which must be above 0 and at most 1,000,000:"),
        (dict(positive=INF), "positive is inf, which must be above 0 and at most 1,000,000:"),
        (dict(amount=-1e-9), "amount is -1e-09, which must be at least 0 and at most 1,000,000:"),
        (dict(rate=1.0), "rate is 1.0, which must be at least 0 and below 1:"),
        (dict(rate=NAN), "rate is nan, which must be at least 0 and below 1:"),
        (dict(probability=1.1), "probability is 1.1, which must be from 0 to 1:"),
        (dict(fraction=0), "fraction is 0, which must be above 0 and at most 1:"),
        (dict(angle=181), "angle is 181, which must be from 0 to 180:"),
        (dict(size=(0, 16)), "size is (0, 16), each of which must be at least 1 and at most "
         "16,384, since more would need too much memory:"),
        (dict(size=(16,)), "size is (16,), but limited needs tuple[int, int];"),
        (dict(steps=(1, -1)), "steps is (1, -1), each of which must be at least 0 and"),
        (dict(pair=(0.0, 1.0)), "pair is (0.0, 1.0), each of which must be above 0 and at most 1:"),
        (dict(pair=(1.0, 0.1)), "pair is (1.0, 0.1), which must be two numbers in ascending"),
        (dict(resolution=(0, -5)), "resolution is (0, -5), each of which must be at least 1 and"),
        (dict(rate="a"), "rate is 'a', but limited needs int | float | None;"),
    ],
)  # fmt: skip
def test_values_beyond_limits(section, message):
    with pytest.raises(UserError, match=re.escape(message)):
        construct(limited, section, "config.data")


def leaf(*, width: Annotated[Count, "wide"], kind: str = "a"):
    return width, kind


def other_leaf(*, height: Annotated[Count, "wide", "high"] = 3):
    return height


LEAVES = {"leaf": leaf, "other": other_leaf}


Made = Annotated[tuple, Arguments(leaf)]


def tree(
    *,
    chosen: Annotated[tuple, Choice(LEAVES)],
    made: Annotated[tuple, Arguments(leaf)] | None = None,
    layer: Layer | None = None,
    depth: Annotated[Count, "high"] = 7,
):
    return chosen, made, layer, depth


@pytest.mark.parametrize("section_type", [dict, ConfigDict])
def test_inner_sections_of_functions(section_type):
    section = section_type(
        {"chosen": {"name": "other"}, "made": {"width": 2}, "layer": {"width": 1}}
    )
    assert construct(tree, section, "config") == (3, (2, "a"), Layer(1), 7)
    assert defaults(tree, section, "config") == {
        "chosen": {"height": 3}, "made": {"kind": "a"}, "layer": {"rate": 0.1}, "depth": 7,
    }  # fmt: skip
    assert marked(tree, section, "wide", "config") == {
        "config.chosen.height": 3, "config.made.width": 2,
    }  # fmt: skip
    assert marked(tree, section, "high", "config") == {"config.chosen.height": 3, "config.depth": 7}


def branch(*, kind: Annotated[tuple, Choice(LEAVES, default="other")], made: Made):
    return kind, made


@pytest.mark.parametrize("section_type", [dict, ConfigDict])
def test_omitted_sections_have_their_defaults(section_type):
    whole = {"kind": {"name": "other", "height": 3}, "made": {"kind": "a"}}
    assert defaults(branch, section_type({}), "config") == whole
    stated = section_type({"kind": {"height": 5}, "made": {"width": 2}})
    assert defaults(branch, stated, "config") == {"kind": {"name": "other"}, "made": {"kind": "a"}}
    assert construct(branch, stated, "config") == (5, (2, "a"))
    leaf = section_type({"kind": {"name": "leaf", "width": 1}})
    assert defaults(branch, leaf, "config")["kind"] == {"kind": "a"}


@dataclasses.dataclass(frozen=True)
class Plain:
    size: int = 4


def twig(*, kind: Annotated[Plain, Choice({"plain": Plain}, default="plain")] = Plain(5)):  # noqa: B008
    return kind


def test_the_name_of_a_default_is_stated():
    assert defaults(twig, {}, "config") == {"kind": {"name": "plain", "size": 5}}


@pytest.mark.parametrize(
    ("section", "message"),
    [
        (dict(chosen=dict(name="leave")), "config.chosen.name is 'leave'.*did you mean 'leaf'"),
        (dict(chosen=dict(name="leaf")), "config.chosen lacks width, which leaf needs"),
        (dict(chosen=dict(name="leaf", width=0)), "config.chosen.width is 0, which must be at"),
        (dict(chosen=dict(name="other"), made=dict(size=1)), "config.made.size is not a setting"),
    ],
)
def test_wrong_inner_sections_of_functions(section, message):
    with pytest.raises(UserError, match=message):
        check(tree, section, "config")


def test_positional_arguments_are_not_settings():
    def run(folder, /, *, keep: Count):
        return folder, keep

    assert construct(run, dict(keep=2), "config.checkpoint", "here") == ("here", 2)
    with pytest.raises(UserError, match="folder is not a setting of run. Its settings are keep"):
        construct(run, dict(folder="there", keep=2), "config.checkpoint", "here")
