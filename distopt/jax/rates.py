"""Numbers that may change from step to step: a learning rate, a weight decay, or a schedule of one."""

from __future__ import annotations

from typing import Any

from distopt.core.numbers import as_scalar

__all__ = ["check_none", "checked_rate", "value_at"]


def checked_rate(value: Any, argument: str) -> Any:
    """A number, or a function of the number of steps made, as optax's schedules are.

    Raises:
        TypeError: something else.
        ValueError: a number that is not finite.
    """
    return value if callable(value) else value_at(value, 0, argument)


def value_at(value: Any, steps: int, argument: str) -> float:
    """The number after so many steps.

    Raises:
        TypeError: a schedule has returned no number.
        ValueError: it is not finite.
    """
    found = value(steps) if callable(value) else value
    if hasattr(found, "shape") and found.shape == ():
        found = found.item()  # of whatever library's arrays
    return as_scalar(found, f"{argument} at step {steps}" if callable(value) else argument, finite=True)


def check_none(argument: str, value: Any) -> None:
    """Raises ValueError if a dtype is asked for that the state cannot have."""
    if value is not None:
        raise ValueError(
            f"{argument} must be None: the state has the dtypes of the parameters; got {value!r}"
        )
