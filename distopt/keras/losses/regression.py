"""Losses for numbers: squared, absolute, relative and robust errors, and cosine similarity."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from distopt.autodiff.fused.losses import clip, squared_error, squared_error_sum
from distopt.keras.losses.loss import LossFunctionWrapper, keeps_dtype, set_fused_sum
from distopt.keras.losses.reduction import Reduction
from distopt.keras.values import floats_like

__all__ = [
    "MAE",
    "MAPE",
    "MSE",
    "MSLE",
    "CosineSimilarity",
    "Huber",
    "LogCosh",
    "MeanAbsoluteError",
    "MeanAbsolutePercentageError",
    "MeanSquaredError",
    "MeanSquaredLogarithmicError",
    "cosine_similarity",
    "huber",
    "log_cosh",
    "logcosh",
    "mae",
    "mape",
    "mean_absolute_error",
    "mean_absolute_percentage_error",
    "mean_squared_error",
    "mean_squared_logarithmic_error",
    "mse",
    "msle",
]

_EPSILON = 1e-7


@keeps_dtype
def mean_squared_error(y_true: Any, y_pred: Any) -> Any:
    """``mean((y_pred - y_true) ** 2)`` over the last axis: ``[batch, ..., n]`` -> ``[batch, ...]``."""
    y_true, y_pred = floats_like(y_true, y_pred)
    if y_true.shape == y_pred.shape and y_pred.ndim:
        return squared_error(y_true, y_pred)
    return np.mean(np.square(y_pred - y_true), axis=-1)


def _of_one_shape(y_true: Any, y_pred: Any) -> tuple[Any, Any] | None:
    y_true, y_pred = floats_like(y_true, y_pred)
    return (y_true, y_pred) if y_true.shape == y_pred.shape and y_pred.size else None


set_fused_sum(mean_squared_error, _of_one_shape, squared_error_sum)


@keeps_dtype
def mean_absolute_error(y_true: Any, y_pred: Any) -> Any:
    """``mean(|y_pred - y_true|)`` over the last axis: ``[batch, ..., n]`` -> ``[batch, ...]``."""
    y_true, y_pred = floats_like(y_true, y_pred)
    return np.mean(np.abs(y_pred - y_true), axis=-1)


@keeps_dtype
def mean_absolute_percentage_error(y_true: Any, y_pred: Any) -> Any:
    """``100 * mean(|y_true - y_pred| / max(|y_true|, 1e-7))`` over the last axis."""
    y_true, y_pred = floats_like(y_true, y_pred)
    return 100 * np.mean(np.abs(y_true - y_pred) / clip(np.abs(y_true), _EPSILON, None), axis=-1)


@keeps_dtype
def mean_squared_logarithmic_error(y_true: Any, y_pred: Any) -> Any:
    """``mean((log(1 + y_pred) - log(1 + y_true)) ** 2)`` over the last axis; both at least 1e-7."""
    y_true, y_pred = floats_like(y_true, y_pred)
    logs = [np.log(clip(y, _EPSILON, None) + 1) for y in (y_pred, y_true)]
    return np.mean(np.square(logs[0] - logs[1]), axis=-1)


def huber(y_true: Any, y_pred: Any, delta: float = 1.0) -> Any:
    """Squared near zero, absolute beyond ``delta`` (Huber 1964), the mean over the last axis.

    ``d ** 2 / 2`` where ``|d| <= delta``, else ``delta * (|d| - delta / 2)``. As in Keras, it is always
    computed in float32.
    """
    y_true, y_pred = (y.astype(np.float32) for y in floats_like(y_true, y_pred))
    error = y_pred - y_true
    size = np.abs(error)
    near = 0.5 * np.square(error)
    return np.mean(np.where(size <= delta, near, 0.5 * delta**2 + delta * (size - delta)), axis=-1)


@keeps_dtype
def log_cosh(y_true: Any, y_pred: Any) -> Any:
    """``mean(log(cosh(y_pred - y_true)))`` over the last axis, without overflow."""
    y_true, y_pred = floats_like(y_true, y_pred)
    d = y_pred - y_true
    return np.mean(d + np.logaddexp(-2 * d, 0) - math.log(2), axis=-1)


@keeps_dtype
def cosine_similarity(y_true: Any, y_pred: Any, axis: int = -1) -> Any:
    """Minus the cosine of the angle between labels and predictions along ``axis``; -1 is the best."""
    y_true, y_pred = floats_like(y_true, y_pred)
    return -np.sum(_normalized(y_true, axis) * _normalized(y_pred, axis), axis=axis)


def _normalized(x: Any, axis: int) -> Any:
    return x / np.sqrt(clip(np.sum(np.square(x), axis=axis, keepdims=True), 1e-12, None))


logcosh = log_cosh
mae = MAE = mean_absolute_error
mape = MAPE = mean_absolute_percentage_error
mse = MSE = mean_squared_error
msle = MSLE = mean_squared_logarithmic_error


class MeanSquaredError(LossFunctionWrapper):
    """:func:`mean_squared_error` of each sample, reduced."""

    def __init__(self, reduction: str = Reduction.AUTO, name: str | None = "mean_squared_error") -> None:
        super().__init__(mean_squared_error, reduction, name)


class MeanAbsoluteError(LossFunctionWrapper):
    """:func:`mean_absolute_error` of each sample, reduced."""

    def __init__(self, reduction: str = Reduction.AUTO, name: str | None = "mean_absolute_error") -> None:
        super().__init__(mean_absolute_error, reduction, name)


class MeanAbsolutePercentageError(LossFunctionWrapper):
    """:func:`mean_absolute_percentage_error` of each sample, reduced."""

    def __init__(
        self, reduction: str = Reduction.AUTO, name: str | None = "mean_absolute_percentage_error"
    ) -> None:
        super().__init__(mean_absolute_percentage_error, reduction, name)


class MeanSquaredLogarithmicError(LossFunctionWrapper):
    """:func:`mean_squared_logarithmic_error` of each sample, reduced."""

    def __init__(
        self, reduction: str = Reduction.AUTO, name: str | None = "mean_squared_logarithmic_error"
    ) -> None:
        super().__init__(mean_squared_logarithmic_error, reduction, name)


class Huber(LossFunctionWrapper):
    """:func:`huber` of each sample, reduced.

    Args:
        delta: the distance from which on the loss is linear.
        reduction: see :class:`~distopt.keras.losses.Loss`.
        name: a name.
    """

    def __init__(
        self, delta: float = 1.0, reduction: str = Reduction.AUTO, name: str | None = "huber_loss"
    ) -> None:
        super().__init__(huber, reduction, name, delta=delta)


class LogCosh(LossFunctionWrapper):
    """:func:`log_cosh` of each sample, reduced."""

    def __init__(self, reduction: str = Reduction.AUTO, name: str | None = "log_cosh") -> None:
        super().__init__(log_cosh, reduction, name)


class CosineSimilarity(LossFunctionWrapper):
    """:func:`cosine_similarity`, reduced.

    Args:
        axis: the axis of the vectors.
        reduction: see :class:`~distopt.keras.losses.Loss`.
        name: a name.
    """

    def __init__(
        self, axis: int = -1, reduction: str = Reduction.AUTO, name: str | None = "cosine_similarity"
    ) -> None:
        super().__init__(cosine_similarity, reduction, name, axis=axis)
