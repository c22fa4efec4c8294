"""Checks of arguments that must be numbers.

Each returns the value, or raises an error that names the argument.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from distopt.core.checks import shown
from distopt.core.dtypes import kind_of
from distopt.core.foreign import detached
from distopt.core.tensor import TensorLike, as_array
from distopt.typing import Array

__all__ = ["as_clip", "as_number", "as_numbers", "as_scalar"]


def as_number(value: Any, argument: str) -> Any:
    """Returns ``value``, a real number: a Python or NumPy scalar, or an array or tensor of shape ().

    Raises:
        TypeError: it is something else.
        ValueError: it is an array of another shape, or an int that is too large for a float.
    """
    if isinstance(value, float):
        return value
    if isinstance(value, (int, np.integer, np.floating, np.bool_)):
        try:
            float(value)
        except OverflowError:
            raise ValueError(f"{argument} is too large for a float; got {shown(value)}") from None
        return value
    if isinstance(value, (np.ndarray, np.generic, TensorLike)):
        array = as_array(value)
        if kind_of(array.dtype) in "biuf" and array.shape == ():
            return value
        if kind_of(array.dtype) in "biuf":
            raise ValueError(f"{argument} must be one number; got an array of shape {array.shape}")
    raise TypeError(f"{argument} must be a number; got {shown(value)}")


def as_scalar(value: Any, argument: str, finite: bool = False) -> float:
    """Returns a real number as a float.

    Raises:
        TypeError: it is not a real number.
        ValueError: it is an array whose shape is not (), or it is not finite and ``finite`` is set.
    """
    number = float(as_number(value, argument))
    if finite and not math.isfinite(number):
        raise ValueError(f"{argument} must be a finite number; got {number}")
    return number


def as_clip(value: Any, argument: str) -> Any:
    """Returns ``value``, the limit of a clip, unchanged.

    Raises:
        TypeError: it is not a number.
        ValueError: it is NaN, or an infinite limit of a norm, which would make gradients NaN.
    """
    if math.isnan(as_scalar(value, argument, finite="norm" in argument)):
        raise ValueError(f"{argument} must be a number or None, received: {value}")
    return value


def as_numbers(value: Any, what: str) -> Array:
    """Converts arrays, tensors and nested lists to an array of numbers.

    Raises:
        TypeError: it contains something other than numbers.
        ValueError: it cannot be converted, such as rows of unequal lengths.
    """
    if type(value) is np.ndarray:
        array: Array = value
    else:
        try:
            array = as_array(detached(value))
        except (TypeError, ValueError, RecursionError) as error:
            raise ValueError(f"{what} must be numbers; got {shown(value)}: {error}") from None
    if kind_of(array.dtype) not in "biufc":
        raise TypeError(f"{what} must be numbers; got {shown(value)}")
    return array
