"""Labels and predictions as losses and metrics need them: real numbers of one dtype, ranks that fit."""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np

from distopt.core.tensor import Tensor, TensorLike, as_array, constant
from distopt.typing import Array

__all__ = [
    "as_floats",
    "as_reals",
    "fit_weight",
    "floats_like",
    "is_half",
    "refuse_dtype",
    "squeeze_ranks",
    "tensor",
    "wide_floats",
]


def tensor(value: Any) -> Any:
    """``value`` as a tensor; arrays are not copied, tensors and traced values are returned as they are."""
    if isinstance(value, TensorLike):
        return value
    return Tensor.from_numpy(value) if isinstance(value, np.ndarray) else constant(value)


def refuse_dtype(argument: str, dtype: np.dtype[Any]) -> NoReturn:
    """Raises the TypeError of an argument that does not hold real numbers."""
    raise TypeError(
        f"{argument} must hold real numbers (integers, Booleans or floats); got dtype {dtype}: "
        "convert it first, with astype for example"
    )


def as_floats(value: Any, argument: str) -> Any:
    """``value`` as a tensor of floats in the machine's byte order: float32 if it holds integers or Booleans.

    Raises:
        TypeError: it holds no real numbers.
    """
    value = tensor(value)
    dtype = value.dtype
    if dtype.kind == "f":
        return value if dtype.isnative else value.astype(dtype.newbyteorder("="))
    if dtype.kind not in "biu":
        refuse_dtype(argument, dtype)
    return value.astype(np.float32)


def wide_floats(value: Any, argument: str) -> Any:
    """:func:`as_floats` in float32 at least: squares of float16 overflow at 256, epsilons vanish in it."""
    value = as_floats(value, argument)
    return value.astype(np.float32) if is_half(value) else value


def floats_like(y_true: Any, y_pred: Any) -> tuple[Any, Any]:
    """Labels and predictions as tensors of the predictions' dtype, float32 at least.

    Raises:
        TypeError: one of them holds no real numbers.
    """
    y_pred, y_true = wide_floats(y_pred, "y_pred"), tensor(y_true)
    if y_true.dtype == y_pred.dtype:
        return y_true, y_pred
    if y_true.dtype.kind not in "biuf":
        refuse_dtype("y_true", y_true.dtype)
    return y_true.astype(y_pred.dtype), y_pred


def as_reals(value: Any, argument: str) -> Array:
    """``value`` as a plain array of integers, Booleans or floats, float16 made float32.

    Raises:
        TypeError: it holds something else.
    """
    array = as_array(value)
    if array.dtype.kind not in "biuf":
        refuse_dtype(argument, array.dtype)
    return array.astype(np.float32) if is_half(array) else array


def is_half(value: Any) -> bool:
    """Whether ``value`` is an array or tensor of float16, in either byte order."""
    dtype = getattr(value, "dtype", None)
    return dtype is not None and dtype.kind == "f" and dtype.itemsize == 2


def squeeze_ranks(y_true: Any, y_pred: Any) -> tuple[Any, Any]:
    """Drops a last axis of length 1 from the one that has an axis more than the other."""
    more = y_pred.ndim - y_true.ndim
    if more == 1 and y_pred.shape[-1] == 1:
        return y_true, y_pred[..., 0]
    if more == -1 and y_true.shape[-1] == 1:
        return y_true[..., 0], y_pred
    return y_true, y_pred


def fit_weight(weight: Any, losses: Any) -> Any:
    """A sample weight that broadcasts against ``losses``.

    Args:
        weight: a number, one a sample, one a time step, ..., or one a value; a last axis of length 1 may be
            too many.
        losses: ``[batch, ...]``.

    Raises:
        TypeError: it holds no real numbers.
        ValueError: the shapes do not fit.
    """
    weight = tensor(weight)
    if weight.dtype.kind not in "biuf":
        refuse_dtype("sample_weight", weight.dtype)
    if weight.ndim and losses.ndim:
        if weight.ndim == losses.ndim + 1 and weight.shape[-1] == 1:
            weight = weight[..., 0]
        elif weight.ndim < losses.ndim:
            weight = weight[(..., *[None] * (losses.ndim - weight.ndim))]
    if not _fits(weight.shape, losses.shape):
        raise ValueError(
            f"sample_weight of shape {weight.shape} does not fit values of shape {losses.shape}: "
            "give one weight, one a sample, or one a value"
        )
    return weight


def _fits(shape: tuple[int, ...], values: tuple[int, ...]) -> bool:
    """Whether an array of that shape broadcasts to values, and does not make more of them; one value may."""
    try:
        return np.broadcast_shapes(shape, values) == values or not values
    except ValueError:
        return False
