"""Checks and evaluates options that are a number or a schedule, such as the learning rate."""

from __future__ import annotations

from typing import Any

from distopt.core.numbers import as_scalar

__all__ = ["check_none", "checked_rate", "value_at"]


def checked_rate(value: Any, argument: str) -> Any:
    """Returns ``value``, a number or a schedule: a function of the number of steps made, as in optax.

    Raises:
        TypeError: ``value`` is neither.
        ValueError: it is a number that is not finite.
    """
    return value if callable(value) else value_at(value, 0, argument)


def value_at(value: Any, steps: int, argument: str) -> float:
    """The value of a number or schedule after ``steps`` steps.

    Raises:
        TypeError: the schedule did not return a number.
        ValueError: the number is not finite.
    """
    found = value(steps) if callable(value) else value
    if hasattr(found, "shape") and found.shape == ():
        found = found.item()  # a JAX, NumPy or PyTorch scalar
    return as_scalar(found, f"{argument} at step {steps}" if callable(value) else argument, finite=True)


def check_none(argument: str, value: Any) -> None:
    """Raises ValueError if ``value``, a dtype for slots, is given: they have the dtype of the parameter."""
    if value is not None:
        raise ValueError(
            f"{argument} must be None: the state has the dtypes of the parameters; got {value!r}"
        )
