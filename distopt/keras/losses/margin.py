"""Losses that want a margin: hinge, squared hinge, categorical hinge."""

from __future__ import annotations

from typing import Any

import numpy as np

from distopt.autodiff.fused.losses import clip
from distopt.core.tensor import as_array
from distopt.keras.losses.loss import LossFunctionWrapper, keeps_dtype
from distopt.keras.losses.reduction import Reduction
from distopt.keras.values import floats_like

__all__ = ["CategoricalHinge", "Hinge", "SquaredHinge", "categorical_hinge", "hinge", "squared_hinge"]


@keeps_dtype
def hinge(y_true: Any, y_pred: Any) -> Any:
    """``mean(max(1 - y_true * y_pred, 0))`` over the last axis.

    Labels are -1 and 1. If all labels are 0 or 1, they are converted to -1 and 1.
    """
    return np.mean(_margin(y_true, y_pred), axis=-1)


@keeps_dtype
def squared_hinge(y_true: Any, y_pred: Any) -> Any:
    """``mean(max(1 - y_true * y_pred, 0) ** 2)`` over the last axis; labels as for :func:`hinge`."""
    return np.mean(np.square(_margin(y_true, y_pred)), axis=-1)


def _margin(y_true: Any, y_pred: Any) -> Any:
    y_true, y_pred = floats_like(y_true, y_pred)
    labels = as_array(y_true)
    if np.all((labels == 0) | (labels == 1)):
        y_true = 2 * y_true - 1
    return clip(1 - y_true * y_pred, 0.0, None)


@keeps_dtype
def categorical_hinge(y_true: Any, y_pred: Any) -> Any:
    """``max(1 + max((1 - y_true) * y_pred) - sum(y_true * y_pred), 0)``, y_true one-hot ``[batch, k]``."""
    y_true, y_pred = floats_like(y_true, y_pred)
    right = np.sum(y_true * y_pred, axis=-1)
    wrong = np.max((1 - y_true) * y_pred, axis=-1)
    return clip(wrong - right + 1, 0.0, None)


class Hinge(LossFunctionWrapper):
    """:func:`hinge` of each sample, reduced."""

    def __init__(self, reduction: str = Reduction.AUTO, name: str | None = "hinge") -> None:
        super().__init__(hinge, reduction, name)


class SquaredHinge(LossFunctionWrapper):
    """:func:`squared_hinge` of each sample, reduced."""

    def __init__(self, reduction: str = Reduction.AUTO, name: str | None = "squared_hinge") -> None:
        super().__init__(squared_hinge, reduction, name)


class CategoricalHinge(LossFunctionWrapper):
    """:func:`categorical_hinge` of each sample, reduced."""

    def __init__(self, reduction: str = Reduction.AUTO, name: str | None = "categorical_hinge") -> None:
        super().__init__(categorical_hinge, reduction, name)
