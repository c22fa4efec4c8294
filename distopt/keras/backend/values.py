"""Variables and tensors: made, read and set."""
# ruff: noqa: ARG001 (functions of Keras take a name, which means nothing to a tensor)

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from distopt.core import Tensor, Variable
from distopt.core.checks import as_dtype, shown
from distopt.core.tensor import TensorLike, as_array
from distopt.keras.per_replica import assign_alike
from distopt.keras.values import tensor
from distopt.typing import Array, DTypeLike

__all__ = [
    "batch_get_value",
    "batch_set_value",
    "constant",
    "count_params",
    "dtype",
    "eval",
    "get_value",
    "int_shape",
    "ndim",
    "ones",
    "ones_like",
    "set_value",
    "shape",
    "variable",
    "zeros",
    "zeros_like",
]


def get_value(x: Any) -> Any:
    """Returns a copy of the value of a variable or tensor as an array, and anything else unchanged."""
    if not isinstance(x, TensorLike):
        return x
    value = as_array(x)
    return value[()] if value.ndim == 0 else np.array(value)


eval = get_value  # noqa: A001 (the name of Keras)


def set_value(x: Any, value: Any) -> None:
    """Sets a variable, such as ``optimizer.learning_rate``. All replicas must set the same value.

    Raises:
        TypeError: ``x`` is not a variable.
        ValueError: a value of another shape.
    """
    if not isinstance(x, Variable):
        raise TypeError(f"set_value() sets variables; got {shown(x)}")
    assign_alike(x, value)


def batch_get_value(tensors: Iterable[Any]) -> list[Any]:
    """:func:`get_value` of each."""
    return [get_value(one) for one in tensors]


def batch_set_value(tuples: Iterable[tuple[Any, Any]]) -> None:
    """:func:`set_value` of each ``(variable, value)``."""
    for x, value in tuples:
        set_value(x, value)


def variable(
    value: Any, dtype: DTypeLike = None, name: str | None = None, constraint: Any = None
) -> Variable:
    """Creates a variable, by default of dtype :func:`floatx`."""
    return Variable(np.asarray(as_array(value), as_dtype(dtype)), name=name, constraint=constraint)


def constant(value: Any, dtype: DTypeLike = None, shape: Any = None, name: str | None = None) -> Tensor:
    """Creates a tensor, by default of dtype :func:`floatx`. A single number fills the shape."""
    array = np.asarray(as_array(value), as_dtype(dtype))
    if shape is not None:
        array = np.full(shape, array) if array.ndim == 0 else array.reshape(shape)
    return Tensor(array)


def zeros(shape: Any, dtype: DTypeLike = None, name: str | None = None) -> Variable:
    """Creates a variable of zeros, by default of dtype :func:`floatx`."""
    return Variable(np.zeros(shape, as_dtype(dtype)), name=name)


def ones(shape: Any, dtype: DTypeLike = None, name: str | None = None) -> Variable:
    """Creates a variable of ones, by default of dtype :func:`floatx`."""
    return Variable(np.ones(shape, as_dtype(dtype)), name=name)


def zeros_like(x: Any, dtype: DTypeLike = None, name: str | None = None) -> Tensor:
    """Creates a tensor of zeros with the shape and dtype of ``x``."""
    return Tensor(np.zeros_like(as_array(x), dtype))


def ones_like(x: Any, dtype: DTypeLike = None, name: str | None = None) -> Tensor:
    """Creates a tensor of ones with the shape and dtype of ``x``."""
    return Tensor(np.ones_like(as_array(x), dtype))


def shape(x: Any) -> tuple[int, ...]:
    """The shape, as a tuple of integers."""
    return tuple(tensor(x).shape)


int_shape = shape


def ndim(x: Any) -> int:
    """The number of axes."""
    return len(shape(x))


def count_params(x: Any) -> int:
    """The number of elements."""
    return int(np.prod(shape(x)))


def dtype(x: Any) -> str:
    """The name of the dtype."""
    found: Array = as_array(x)
    return found.dtype.name
