"""Sections become objects; what does not fit is named."""

import pytest

from perceiver_io.construct import construct, lookup
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


def test_names():
    table = {"mesh": 1, "pmap": 2}
    assert lookup(table, dict(name="pmap"), "config.parallel") == 2
    with pytest.raises(UserError, match="'mehs', which does not exist .did you mean 'mesh'"):
        lookup(table, dict(name="mehs"), "config.parallel")
    with pytest.raises(UserError, match="config.parallel.name is missing.*mesh, pmap"):
        lookup(table, {}, "config.parallel")
