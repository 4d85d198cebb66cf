"""The check of settings that are numbers or ranges of numbers."""

from typing import Any

from perceiver_io.errors import UserError


def check_limits(settings: Any, **limits: tuple[float, float]) -> None:
    """Checks the named attributes of `settings`: numbers, or ranges (from, to) of numbers.

    Raises UserError on the first that leaves its limits (lowest, highest), or that is a range which
    ends before it begins.
    """
    for name, (lowest, highest) in limits.items():
        value = getattr(settings, name)
        values = value if isinstance(value, tuple) else (value,)
        if not all(lowest <= x <= highest for x in values):
            raise UserError(
                f"{name}={value} of {type(settings).__name__} must lie from {lowest:g} to "
                f"{highest:g}: choose a value between the two."
            )
        if values[0] > values[-1]:
            raise UserError(
                f"{name}={value} of {type(settings).__name__} is a range (from, to) and must not "
                f"end before it begins: write {name}={value[::-1]}."
            )
