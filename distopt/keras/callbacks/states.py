"""Checks of what callbacks take back from a backup."""

from __future__ import annotations

from typing import Any

import numpy as np

from distopt.core.checks import as_count, shown
from distopt.core.numbers import as_scalar
from distopt.typing import Array

__all__ = ["check_arrays", "check_counts", "check_members", "check_number"]


def check_members(state: Any, names: set[str]) -> None:
    """Raises if a state is no dict of exactly these members."""
    if not isinstance(state, dict):
        raise TypeError(f"expected a dict, got {type(state).__name__}")
    if set(state) != names:
        raise ValueError(f"expected the members {sorted(names)}, got {shown(sorted(map(str, state)))}")


def check_counts(state: dict[str, Any], *names: str) -> None:
    """Raises if one of these members is no whole number of at least 0."""
    for name in names:
        as_count(state[name], name, least=0)


def check_number(value: Any, name: str) -> None:
    """Raises if it is no real number; infinite or NaN it may be."""
    if isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be a number; got {value}")
    as_scalar(value, name)


def check_arrays(arrays: Any, weights: Any, what: str) -> None:
    """Raises if these are not arrays of numbers, in the shapes of the weights."""
    shapes = [tuple(weight.shape) for weight in weights]
    if not isinstance(arrays, list) or [_shape(array) for array in arrays] != shapes:
        raise ValueError(f"{what} do not have the shapes of the model's weights")


def _shape(array: Any) -> tuple[int, ...] | None:
    found: Array = np.asarray(array)
    return found.shape if found.dtype.kind in "biufc" else None
