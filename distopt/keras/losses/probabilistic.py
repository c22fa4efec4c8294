"""Losses for probabilities: cross-entropies, Kullback-Leibler divergence, Poisson."""

from __future__ import annotations

from typing import Any

import numpy as np

from distopt.autodiff.fused.losses import (
    clip,
    sigmoid_cross_entropy,
    softmax_cross_entropy,
    softmax_cross_entropy_sum,
    sparse_softmax_cross_entropy,
    sparse_softmax_cross_entropy_sum,
)
from distopt.keras.losses.loss import LossFunctionWrapper, keeps_dtype, set_fused_sum
from distopt.keras.losses.reduction import Reduction
from distopt.keras.values import as_reals, floats_like, wide_floats
from distopt.typing import Array

__all__ = [
    "BCE",
    "KLD",
    "BinaryCrossentropy",
    "CategoricalCrossentropy",
    "KLDivergence",
    "Poisson",
    "SparseCategoricalCrossentropy",
    "bce",
    "binary_crossentropy",
    "categorical_crossentropy",
    "kl_divergence",
    "kld",
    "kullback_leibler_divergence",
    "poisson",
    "sparse_categorical_crossentropy",
]

_EPSILON = 1e-7


@keeps_dtype
def binary_crossentropy(
    y_true: Any, y_pred: Any, from_logits: bool = False, label_smoothing: float = 0
) -> Any:
    """``-mean(t * log(p) + (1 - t) * log(1 - p))`` over the last axis.

    Args:
        y_true: ``[batch, ..., n]`` labels in [0, 1].
        y_pred: ``[batch, ..., n]`` probabilities, or logits.
        from_logits: whether ``y_pred`` has logits, to which the sigmoid is applied.
        label_smoothing: the smoothing ``s``: labels become ``t * (1 - s) + s / 2``.

    Returns:
        ``[batch, ...]``

    Raises:
        ValueError: the shapes of logits and labels differ.
    """
    y_true, y_pred = floats_like(y_true, y_pred)
    if label_smoothing:
        y_true = y_true * (1 - label_smoothing) + 0.5 * label_smoothing
    if from_logits:
        _same_shape("binary_crossentropy", y_true, y_pred)
        return np.mean(sigmoid_cross_entropy(y_true, y_pred), axis=-1)
    p = clip(y_pred, _EPSILON, 1 - _EPSILON)
    likelihood = y_true * np.log(p + _EPSILON) + (1 - y_true) * np.log(1 - p + _EPSILON)
    return -np.mean(likelihood, axis=-1)


@keeps_dtype
def categorical_crossentropy(
    y_true: Any, y_pred: Any, from_logits: bool = False, label_smoothing: float = 0, axis: int = -1
) -> Any:
    """``-sum(t * log(p))`` over the classes.

    Args:
        y_true: ``[batch, ..., k]`` probabilities of the k classes, usually one-hot.
        y_pred: ``[batch, ..., k]`` probabilities, which are divided by their sum, or logits.
        from_logits: whether ``y_pred`` has logits, to which the softmax is applied.
        label_smoothing: the smoothing ``s``: labels become ``t * (1 - s) + s / k``.
        axis: the axis of the classes.

    Returns:
        ``[batch, ...]``

    Raises:
        ValueError: the shapes differ.
    """
    y_true, y_pred = _class_shares(y_true, y_pred, label_smoothing, axis)
    if from_logits:
        return softmax_cross_entropy(y_true, y_pred)
    p = clip(y_pred / np.sum(y_pred, axis=-1, keepdims=True), _EPSILON, 1 - _EPSILON)
    return -np.sum(y_true * np.log(p), axis=-1)


def _class_shares(y_true: Any, y_pred: Any, label_smoothing: float, axis: int) -> tuple[Any, Any]:
    y_true, y_pred = floats_like(y_true, y_pred)
    _same_shape("categorical_crossentropy", y_true, y_pred)
    if axis not in {-1, y_pred.ndim - 1}:
        y_true, y_pred = np.moveaxis(y_true, axis, -1), np.moveaxis(y_pred, axis, -1)
    if label_smoothing:
        y_true = y_true * (1 - label_smoothing) + label_smoothing / y_pred.shape[-1]
    return y_true, y_pred


def _class_logits(
    y_true: Any, y_pred: Any, from_logits: bool = False, label_smoothing: float = 0, axis: int = -1
) -> tuple[Any, Any] | None:
    return _class_shares(y_true, y_pred, label_smoothing, axis) if from_logits else None


set_fused_sum(categorical_crossentropy, _class_logits, softmax_cross_entropy_sum)


@keeps_dtype
def sparse_categorical_crossentropy(
    y_true: Any, y_pred: Any, from_logits: bool = False, axis: int = -1
) -> Any:
    """:func:`categorical_crossentropy` with class indices as labels.

    Args:
        y_true: ``[batch, ...]`` or ``[batch, ..., 1]`` class indices from 0 to k - 1.
        y_pred: ``[batch, ..., k]`` probabilities, or logits.
        from_logits: whether ``y_pred`` has logits, to which the softmax is applied.
        axis: the axis of the classes in ``y_pred``.

    Returns:
        ``[batch, ...]``

    Raises:
        ValueError: a label is not a class, or the shapes do not match.
    """
    return sparse_softmax_cross_entropy(*_labels_and_logits(y_true, y_pred, from_logits, axis))


def _labels_and_logits(
    y_true: Any, y_pred: Any, from_logits: bool = False, axis: int = -1
) -> tuple[Array, Any]:
    y_pred = wide_floats(y_pred, "y_pred")
    if axis not in {-1, y_pred.ndim - 1}:
        y_pred = np.moveaxis(y_pred, axis, -1)
    labels = _class_numbers(y_true, y_pred.shape)
    return labels, (y_pred if from_logits else np.log(clip(y_pred, _EPSILON, 1 - _EPSILON)))


set_fused_sum(sparse_categorical_crossentropy, _labels_and_logits, sparse_softmax_cross_entropy_sum)


def _class_numbers(y_true: Any, shape: tuple[int, ...]) -> Array:
    given = as_reals(y_true, "y_true")
    labels = given.astype(np.int64, copy=False)
    if labels.shape == (*shape[:-1], 1):
        labels = labels[..., 0]
    if labels.shape != shape[:-1]:
        raise ValueError(
            f"sparse_categorical_crossentropy got labels of shape {given.shape} for predictions "
            f"of shape {shape}: expected {shape[:-1]}, the number of the class of each sample. "
            "For one-hot labels use categorical_crossentropy."
        )
    # Negative numbers are huge ones without a sign: one comparison for both ends.
    unsigned = labels.reshape(-1).view(np.uint64)
    if labels.size and unsigned[unsigned.argmax()] >= shape[-1]:
        bad = labels[(labels < 0) | (labels >= shape[-1])][0]
        raise ValueError(
            f"sparse_categorical_crossentropy got label {bad}; with {shape[-1]} classes labels go from 0 to "
            f"{shape[-1] - 1}"
        )
    if given.dtype.kind == "f" and (given.reshape(labels.shape) != labels).any():
        raise ValueError("sparse_categorical_crossentropy got labels that are not integers")
    return labels


def _same_shape(name: str, y_true: Any, y_pred: Any) -> None:
    if y_true.shape != y_pred.shape:
        hint = " For class numbers use sparse_categorical_crossentropy."
        raise ValueError(
            f"{name} needs labels and predictions of one shape; got y_true of shape {y_true.shape} and "
            f"y_pred of shape {y_pred.shape}.{hint if name.startswith('categorical') else ''}"
        )


@keeps_dtype
def kl_divergence(y_true: Any, y_pred: Any) -> Any:
    """``sum(t * log(t / p))`` over the last axis, both kept within [1e-7, 1]."""
    y_true, y_pred = floats_like(y_true, y_pred)
    t, p = clip(y_true, _EPSILON, 1.0), clip(y_pred, _EPSILON, 1.0)
    return np.sum(t * np.log(t / p), axis=-1)


@keeps_dtype
def poisson(y_true: Any, y_pred: Any) -> Any:
    """``mean(p - t * log(p + 1e-7))`` over the last axis."""
    y_true, y_pred = floats_like(y_true, y_pred)
    return np.mean(y_pred - y_true * np.log(y_pred + _EPSILON), axis=-1)


bce = BCE = binary_crossentropy
kld = KLD = kullback_leibler_divergence = kl_divergence


class BinaryCrossentropy(LossFunctionWrapper):
    """:func:`binary_crossentropy` of each sample, reduced.

    Args:
        from_logits: whether predictions are logits, to which the sigmoid is applied.
        label_smoothing: the smoothing ``s``: labels become ``t * (1 - s) + s / 2``.
        reduction: see :class:`~distopt.keras.losses.Loss`.
        name: a name.
    """

    def __init__(
        self,
        from_logits: bool = False,
        label_smoothing: float = 0,
        reduction: str = Reduction.AUTO,
        name: str | None = "binary_crossentropy",
    ) -> None:
        super().__init__(
            binary_crossentropy, reduction, name, from_logits=from_logits, label_smoothing=label_smoothing
        )
        self.from_logits = from_logits


class CategoricalCrossentropy(LossFunctionWrapper):
    """:func:`categorical_crossentropy` of each sample, reduced.

    Args:
        from_logits: whether predictions are logits, to which the softmax is applied.
        label_smoothing: the smoothing ``s``: labels become ``t * (1 - s) + s / k``.
        reduction: see :class:`~distopt.keras.losses.Loss`.
        name: a name.
    """

    def __init__(
        self,
        from_logits: bool = False,
        label_smoothing: float = 0,
        reduction: str = Reduction.AUTO,
        name: str | None = "categorical_crossentropy",
    ) -> None:
        super().__init__(
            categorical_crossentropy,
            reduction,
            name,
            from_logits=from_logits,
            label_smoothing=label_smoothing,
        )
        self.from_logits = from_logits


class SparseCategoricalCrossentropy(LossFunctionWrapper):
    """:func:`sparse_categorical_crossentropy` of each sample, reduced.

    Args:
        from_logits: whether predictions are logits, to which the softmax is applied.
        reduction: see :class:`~distopt.keras.losses.Loss`.
        name: a name.
    """

    def __init__(
        self,
        from_logits: bool = False,
        reduction: str = Reduction.AUTO,
        name: str | None = "sparse_categorical_crossentropy",
    ) -> None:
        super().__init__(sparse_categorical_crossentropy, reduction, name, from_logits=from_logits)
        self.from_logits = from_logits


class KLDivergence(LossFunctionWrapper):
    """:func:`kl_divergence` of each sample, reduced."""

    def __init__(self, reduction: str = Reduction.AUTO, name: str | None = "kl_divergence") -> None:
        super().__init__(kl_divergence, reduction, name)


class Poisson(LossFunctionWrapper):
    """:func:`poisson` of each sample, reduced."""

    def __init__(self, reduction: str = Reduction.AUTO, name: str | None = "poisson") -> None:
        super().__init__(poisson, reduction, name)
