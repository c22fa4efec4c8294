"""Labels and predictions as losses and metrics need them: floats of one dtype, ranks that fit."""

from __future__ import annotations

from typing import Any

import numpy as np

from distopt.core.tensor import Tensor, TensorLike, as_array, constant

__all__ = ["as_floats", "fit_weight", "floats_like", "squeeze_ranks", "tensor", "untraced"]


def tensor(value: Any) -> Any:
    """``value`` as a tensor; arrays are not copied, tensors and traced values are returned as they are."""
    if isinstance(value, TensorLike):
        return value
    return Tensor._of(value) if isinstance(value, np.ndarray) else constant(value)


def untraced(value: Any) -> Any:
    """``value`` as a tensor that no tape follows."""
    return Tensor._of(as_array(value)) if isinstance(value, TensorLike) else tensor(value)


def as_floats(value: Any) -> Any:
    """``value`` as a tensor of floats: float32 if it holds integers or Booleans."""
    value = tensor(value)
    return value if value.dtype.kind == "f" else value.astype(np.float32)


def floats_like(y_true: Any, y_pred: Any) -> tuple[Any, Any]:
    """Labels and predictions as tensors, the labels in the predictions' floating dtype."""
    y_pred, y_true = as_floats(y_pred), tensor(y_true)
    return (y_true if y_true.dtype == y_pred.dtype else y_true.astype(y_pred.dtype)), y_pred


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
        ValueError: the shapes do not fit.
    """
    weight = tensor(weight)
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
