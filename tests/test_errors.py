"""The error for users."""

import io

from perceiver_io.errors import UserError


def test_addresses_of_objects_are_left_out():
    quoted = [io.BytesIO(), io.BytesIO().read]
    assert str(UserError(f"cannot read {quoted[0]}")) == "cannot read <_io.BytesIO object>"
    assert "0x" in repr(quoted[1]) and "0x" not in str(UserError(repr(quoted[1])))
