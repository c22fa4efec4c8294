"""Limits of hyperparameters: numbers that cannot be meant are refused before a step is made with them."""

from __future__ import annotations

import sys
from typing import Any, NamedTuple

import numpy as np

from distopt.core.numbers import as_number
from distopt.core.tensor import as_array

__all__ = ["FINITE", "FRACTION", "NOT_NEGATIVE", "NOT_POSITIVE", "Limit", "within"]


class Limit(NamedTuple):
    """An interval of finite numbers; neither NaN nor infinity is in any.

    Attributes:
        lowest: the smallest of them.
        highest: the largest.
        words: how an error tells it.
    """

    lowest: float
    highest: float
    words: str


_LARGEST = sys.float_info.max
FINITE = Limit(-_LARGEST, _LARGEST, "a finite number")
FRACTION = Limit(0.0, 1.0, "between [0, 1]")
NOT_NEGATIVE = Limit(0.0, _LARGEST, ">= 0 and finite")
NOT_POSITIVE = Limit(-_LARGEST, 0.0, "<= 0 and finite")


def within(limit: Limit, value: Any, argument: str, dtype: Any = np.float64) -> Any:
    """``value``, as it is, if it is a number that ``limit`` allows.

    Args:
        limit: what is allowed.
        value: a number, an array or tensor of shape ().
        argument: its name.
        dtype: what it will be kept in, where large numbers become infinite.

    Raises:
        TypeError: it is no number.
        ValueError: the limit does not allow it, or it has another shape.
    """
    number = as_number(value, argument)
    with np.errstate(over="ignore"):
        kept = float(as_array(number).astype(dtype))
    if not limit.lowest <= kept <= limit.highest:
        raise ValueError(f"{argument} must be {limit.words}, received: {float(number)}")
    return value
