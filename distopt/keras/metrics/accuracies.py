"""Accuracies: the share of right predictions."""

from __future__ import annotations

from typing import Any

import numpy as np

from distopt.keras.metrics.mean import MeanMetricWrapper
from distopt.keras.values import as_reals
from distopt.typing import Array, DTypeLike

__all__ = [
    "Accuracy",
    "BinaryAccuracy",
    "CategoricalAccuracy",
    "SparseCategoricalAccuracy",
    "SparseTopKCategoricalAccuracy",
    "TopKCategoricalAccuracy",
    "accuracy",
    "binary_accuracy",
    "categorical_accuracy",
    "sparse_categorical_accuracy",
    "sparse_top_k_categorical_accuracy",
    "top_k_categorical_accuracy",
]


def accuracy(y_true: Any, y_pred: Any) -> Array:
    """1 where the prediction equals the label, else 0. Shapes must be equal."""
    return np.asarray(as_reals(y_true, "y_true") == as_reals(y_pred, "y_pred"), np.float32)


def binary_accuracy(y_true: Any, y_pred: Any, threshold: float = 0.5) -> Array:
    """The fraction of correct predictions along the last axis, for predictions cut at ``threshold``.

    Args:
        y_true: ``[batch, ..., n]`` labels 0 and 1.
        y_pred: ``[batch, ..., n]`` probabilities.
        threshold: predictions above it count as 1.

    Returns:
        ``[batch, ...]``
    """
    right = as_reals(y_true, "y_true") == (as_reals(y_pred, "y_pred") > threshold)
    return np.asarray(np.mean(right, axis=-1), np.float32)


def categorical_accuracy(y_true: Any, y_pred: Any) -> Array:
    """1 where predictions and labels have the same argmax: ``[batch, ..., k]`` -> ``[batch, ...]``."""
    right = as_reals(y_true, "y_true").argmax(axis=-1) == as_reals(y_pred, "y_pred").argmax(axis=-1)
    return np.asarray(right, np.float32)


def sparse_categorical_accuracy(y_true: Any, y_pred: Any) -> Array:
    """1 where the largest prediction is that of the label.

    Args:
        y_true: ``[batch, ...]`` or ``[batch, ..., 1]`` class indices.
        y_pred: ``[batch, ..., k]`` probabilities or logits.

    Returns:
        ``[batch, ...]``
    """
    labels, values = as_reals(y_true, "y_true"), as_reals(y_pred, "y_pred")
    if labels.ndim == values.ndim and labels.shape[-1] == 1:
        labels = labels[..., 0]
    return np.asarray(labels == values.argmax(axis=-1), np.float32)


def top_k_categorical_accuracy(y_true: Any, y_pred: Any, k: int = 5) -> Array:
    """1 where fewer than ``k`` predictions are larger than the largest label's, ``[batch, classes]``."""
    return sparse_top_k_categorical_accuracy(as_reals(y_true, "y_true").argmax(axis=-1), y_pred, k)


def sparse_top_k_categorical_accuracy(y_true: Any, y_pred: Any, k: int = 5) -> Array:
    """1 where fewer than ``k`` predictions are larger than that of the label.

    Args:
        y_true: ``[batch, ...]`` or ``[batch, ..., 1]`` class indices.
        y_pred: ``[batch, ..., classes]`` probabilities or logits.
        k: the number of largest predictions to consider.

    Returns:
        ``[batch, ...]``; 0 where the label is not a class or its prediction is not finite.
    """
    values = as_reals(y_pred, "y_pred")
    labels = as_reals(y_true, "y_true").astype(np.int64)
    labels = labels if labels.ndim == values.ndim else labels[..., None]
    known = (labels >= 0) & (labels < values.shape[-1])
    chosen = np.take_along_axis(values, np.where(known, labels, 0), -1)
    larger = np.sum(values > chosen, axis=-1)
    return np.asarray((larger < k) & (known & np.isfinite(chosen))[..., 0], np.float32)


class Accuracy(MeanMetricWrapper):
    """How often predictions equal labels."""

    def __init__(self, name: str = "accuracy", dtype: DTypeLike | None = None) -> None:
        super().__init__(accuracy, name, dtype)


class BinaryAccuracy(MeanMetricWrapper):
    """How often predictions, cut at ``threshold``, equal binary labels."""

    def __init__(
        self, name: str = "binary_accuracy", dtype: DTypeLike | None = None, threshold: float = 0.5
    ) -> None:
        super().__init__(binary_accuracy, name, dtype, threshold=threshold)


class CategoricalAccuracy(MeanMetricWrapper):
    """How often the largest prediction is correct, for one-hot labels."""

    def __init__(self, name: str = "categorical_accuracy", dtype: DTypeLike | None = None) -> None:
        super().__init__(categorical_accuracy, name, dtype)


class SparseCategoricalAccuracy(MeanMetricWrapper):
    """How often the largest prediction is correct, for class indices as labels."""

    def __init__(self, name: str = "sparse_categorical_accuracy", dtype: DTypeLike | None = None) -> None:
        super().__init__(sparse_categorical_accuracy, name, dtype)


class TopKCategoricalAccuracy(MeanMetricWrapper):
    """How often the label is among the ``k`` largest predictions, for one-hot labels."""

    def __init__(
        self, k: int = 5, name: str = "top_k_categorical_accuracy", dtype: DTypeLike | None = None
    ) -> None:
        super().__init__(top_k_categorical_accuracy, name, dtype, k=k)


class SparseTopKCategoricalAccuracy(MeanMetricWrapper):
    """How often the label is among the ``k`` largest predictions, for class indices as labels."""

    def __init__(
        self, k: int = 5, name: str = "sparse_top_k_categorical_accuracy", dtype: DTypeLike | None = None
    ) -> None:
        super().__init__(sparse_top_k_categorical_accuracy, name, dtype, k=k)
