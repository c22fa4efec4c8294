"""Counts of right and wrong positives and negatives at thresholds."""

from __future__ import annotations

from typing import Any

import numpy as np

from distopt.core.checks import shown
from distopt.core.numbers import as_numbers
from distopt.core.tensor import as_array
from distopt.keras.values import as_reals, fit_weight, squeeze_ranks
from distopt.typing import Array

__all__ = ["as_thresholds", "confusion_counts"]


def as_thresholds(thresholds: Any) -> Array:
    """``[n]`` float64, as given; one number makes ``[1]``.

    Raises:
        TypeError: no numbers.
        ValueError: more than one axis, or one outside [0, 1].
    """
    values = np.atleast_1d(as_numbers(thresholds, "thresholds"))
    if values.dtype.kind == "c" or values.ndim != 1 or not ((values >= 0) & (values <= 1)).all():
        raise ValueError(f"thresholds must be between 0 and 1; got {shown(thresholds)}")
    return values.astype(np.float64)


def confusion_counts(
    y_true: Any,
    y_pred: Any,
    thresholds: Array,
    sample_weight: Any = None,
    top_k: int | None = None,
    class_id: int | None = None,
) -> tuple[Array, Array, Array, Array]:
    """Weighted numbers of true positives, false positives, true negatives, false negatives.

    Args:
        y_true: ``[...]`` labels; all but 0 are positive.
        y_pred: ``[...]`` values from 0 to 1.
        thresholds: ``[n]``, in any order; a prediction above it is positive.
        sample_weight: None, a number, ``[batch]``, or the labels' shape.
        top_k: only the ``top_k`` largest predictions of the last axis can be positive.
        class_id: only this element of the last axis counts.

    Returns:
        four arrays ``[n]``, float64.

    Raises:
        ValueError: predictions are outside [0, 1], or shapes do not match.
    """
    labels, values = squeeze_ranks(as_reals(y_true, "y_true"), as_reals(y_pred, "y_pred"))
    values = values.astype(np.float32)
    if values.size and not (values.min() >= 0 and values.max() <= 1):
        raise ValueError(
            "predictions must be between 0 and 1 to be compared with thresholds; "
            f"got values from {values.min()} to {values.max()}. For logits apply the activation first."
        )
    if labels.shape != values.shape:
        raise ValueError(f"y_true of shape {labels.shape} does not fit y_pred of shape {values.shape}")
    if top_k is not None:
        if values.ndim == 0:
            raise ValueError("top_k needs predictions with an axis of classes; got one number")
        values = _only_top_k(values, top_k)
    if class_id is not None:
        if labels.ndim == 0 or class_id >= labels.shape[-1]:
            raise ValueError(f"class_id={class_id} is not a class of labels of shape {labels.shape}")
        labels, values = labels[..., class_id], values[..., class_id]
    weights = np.ones(labels.shape)
    if sample_weight is not None:
        weights = np.broadcast_to(as_array(fit_weight(sample_weight, labels)), labels.shape).astype(float)
    order = np.argsort(thresholds, kind="stable")
    # The number of thresholds that each prediction lies above: one pass however many there are.
    above = np.searchsorted(thresholds.astype(np.float32)[order], values.reshape(-1), side="left")
    positive = labels.reshape(-1) != 0
    counted = []
    for chosen in (positive, ~positive):
        bins = np.bincount(above[chosen], weights.reshape(-1)[chosen], minlength=len(order) + 1)
        yes = np.empty(len(order))
        yes[order] = bins[::-1].cumsum()[::-1][1:]
        counted += [yes, bins.sum() - yes]
    return counted[0], counted[2], counted[3], counted[1]


def _only_top_k(values: Array, k: int) -> Array:
    """``values`` with all but the k largest of the last axis at minus infinity."""
    best = np.argsort(-values, axis=-1, kind="stable")[..., :k]
    kept = np.full_like(values, -np.inf)
    np.put_along_axis(kept, best, np.take_along_axis(values, best, -1), -1)
    return kept
