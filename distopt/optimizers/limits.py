"""Limits of hyperparameters: invalid numbers are rejected before a step uses them."""

from __future__ import annotations

import sys
from typing import Any, NamedTuple

import numpy as np

from distopt.core.numbers import as_number
from distopt.core.tensor import as_array

__all__ = [
    "BELOW_ONE",
    "FINITE",
    "FRACTION",
    "NOT_NEGATIVE",
    "NOT_POSITIVE",
    "POSITIVE",
    "Limit",
    "within",
]


class Limit(NamedTuple):
    """An interval of finite numbers; NaN and infinity are never allowed.

    Attributes:
        lowest: the smallest number allowed.
        highest: the largest number allowed.
        description: the interval in error messages.
    """

    lowest: float
    highest: float
    description: str


_LARGEST = sys.float_info.max
FINITE = Limit(-_LARGEST, _LARGEST, "a finite number")
BELOW_ONE = Limit(0.0, 1 - 2**-53, "in [0, 1)")
FRACTION = Limit(0.0, 1.0, "between 0 and 1")
NOT_NEGATIVE = Limit(0.0, _LARGEST, ">= 0 and finite")
POSITIVE = Limit(sys.float_info.min, _LARGEST, "> 0 and finite")
NOT_POSITIVE = Limit(-_LARGEST, 0.0, "<= 0 and finite")


def within(limit: Limit, value: Any, argument: str, dtype: Any = np.float64) -> Any:
    """Returns ``value``, unchanged, if it is a number within ``limit``.

    Args:
        limit: the allowed interval.
        value: a number, or an array or tensor of shape ().
        argument: its name, for messages.
        dtype: the dtype in which it will be stored, where large numbers become infinite.

    Raises:
        TypeError: it is not a number.
        ValueError: it is outside the interval, or its shape is not ().
    """
    number = as_number(value, argument)
    with np.errstate(over="ignore"):
        kept = float(as_array(number).astype(dtype))
    if not limit.lowest <= kept <= limit.highest:
        raise ValueError(f"{argument} must be {limit.description}, received: {float(number)}")
    return value
