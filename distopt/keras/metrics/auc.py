"""AUC: the area under the ROC or precision-recall curve."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from distopt.core.checks import as_count, as_one_of, shown
from distopt.core.numbers import as_numbers
from distopt.core.tensor import Tensor, as_array
from distopt.keras.metrics.confusion import as_thresholds, confusion_counts
from distopt.keras.metrics.mean import divided
from distopt.keras.metrics.metric import Metric
from distopt.keras.values import as_reals, fit_weight
from distopt.typing import Array, DTypeLike

__all__ = ["AUC"]


class AUC(Metric):
    """The area under the ROC or precision-recall curve, approximated at thresholds.

    Args:
        num_thresholds: the number of evenly spaced thresholds, at least 2.
        curve: "ROC" or "PR".
        summation_method: "interpolation" (trapezoids for ROC; Davis and Goadrich 2006 for PR), "minoring"
            (the lower end of each interval) or "majoring" (the higher end).
        name: a name.
        dtype: the result's dtype.
        thresholds: the inner thresholds, instead of evenly spaced ones.
        multi_label: whether each element of the last axis is a label with a separate curve; the result is
            the mean of their areas. Otherwise all elements make one curve.
        label_weights: ``[labels]``, not negative: the weights of the labels in that mean. Without
            ``multi_label``, the weights of their elements in the one curve.

    Raises:
        ValueError: an argument is invalid.
    """

    def __init__(
        self,
        num_thresholds: int = 200,
        curve: str = "ROC",
        summation_method: str = "interpolation",
        name: str | None = None,
        dtype: DTypeLike | None = None,
        thresholds: Sequence[float] | None = None,
        multi_label: bool = False,
        label_weights: Sequence[float] | None = None,
    ) -> None:
        as_one_of(curve, "curve", ("ROC", "PR"))
        as_one_of(summation_method, "summation_method", ("interpolation", "minoring", "majoring"))
        super().__init__(name, dtype)
        self.curve = curve
        self.summation_method = summation_method
        self._given = thresholds
        if thresholds is None:
            num_thresholds = as_count(num_thresholds, "num_thresholds", least=2, most=1_000_000)
            inner = np.arange(1, num_thresholds - 1) / (num_thresholds - 1)
        else:
            inner = np.sort(as_thresholds(thresholds))
        # Just outside, so that predictions of exactly 0 and 1 fall between.
        self._at = np.concatenate([[-1e-7], inner, [1 + 1e-7]])
        self.num_thresholds = len(self._at)
        self.multi_label = bool(multi_label)
        self.label_weights = None if label_weights is None else _as_weights(label_weights)
        self._labels = 0
        if not self.multi_label:
            self._build(())

    def _build(self, labels: tuple[int, ...]) -> None:
        """Makes the counts, ``[thresholds, *labels]``."""
        shape = (self.num_thresholds, *labels)
        self.true_positives = self.add_weight("true_positives", shape)
        self.false_positives = self.add_weight("false_positives", shape)
        self.true_negatives = self.add_weight("true_negatives", shape)
        self.false_negatives = self.add_weight("false_negatives", shape)

    @property
    def thresholds(self) -> list[float]:
        """All thresholds, increasing."""
        return [float(t) for t in self._at]

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Adds a batch.

        Args:
            y_true: labels 0 and 1 of any shape; ``[batch, labels]`` for several.
            y_pred: values from 0 to 1, the same shape.
            sample_weight: None, a number, ``[batch]``, or the labels' shape.

        Raises:
            ValueError: predictions are outside [0, 1], or shapes do not match.
        """
        if self.multi_label or self.label_weights is not None:
            labels, values = as_reals(y_true, "y_true"), as_reals(y_pred, "y_pred")
            counts = self._counts_by_label(labels, values, sample_weight)
        else:
            counts = confusion_counts(y_true, y_pred, self._at, sample_weight)
        for variable, count in zip(self.weights, counts, strict=True):
            variable.assign_add(count)

    def _counts_by_label(self, true: Array, pred: Array, sample_weight: Any) -> tuple[Array, ...]:
        """The counts of each label, ``[thresholds, labels]``, or all of them weighed and added up."""
        if pred.ndim != 2 or true.shape != pred.shape:
            raise ValueError(
                f"metric {self.name!r} takes labels and predictions [batch, labels]; got shapes "
                f"{true.shape} and {pred.shape}"
            )
        labels = pred.shape[1]
        if self.label_weights is not None and len(self.label_weights) != labels:
            raise ValueError(f"{len(self.label_weights)} label_weights do not fit {labels} labels")
        if self.multi_label and not self._labels:
            self._build((labels,))
            self._labels = labels
        if self._labels not in (0, labels):
            raise ValueError(f"metric {self.name!r} has counts of {self._labels} labels; got {labels}")
        weights = None
        if sample_weight is not None:
            weights = np.broadcast_to(as_array(fit_weight(sample_weight, true)), true.shape)
        found = [
            confusion_counts(true[:, i], pred[:, i], self._at, None if weights is None else weights[:, i])
            for i in range(labels)
        ]
        columns = tuple(np.stack(column, axis=-1) for column in zip(*found, strict=True))
        return columns if self.multi_label else tuple(column @ self.label_weights for column in columns)

    def result(self) -> Tensor:
        """The area over all batches and replicas; 0 if there are none."""
        if not self.weights:
            return self._tensor(0.0)
        areas = self._areas(*(v.numpy() for v in self.weights))
        if not self.multi_label:
            return self._tensor(areas)
        weights = np.ones(len(areas)) if self.label_weights is None else self.label_weights
        return self._tensor(divided(np.sum(areas * weights), weights.sum()))

    def _areas(self, tp: Array, fp: Array, tn: Array, fn: Array) -> Array:
        """The area below each column of counts."""
        if self.curve == "PR" and self.summation_method == "interpolation":
            return _interpolated_pr(tp, fp, fn)
        recall = divided(tp, tp + fn)
        x, y = (divided(fp, fp + tn), recall) if self.curve == "ROC" else (recall, divided(tp, tp + fp))
        left, right = y[:-1], y[1:]
        heights = {
            "interpolation": (left + right) / 2,
            "minoring": np.minimum(left, right),
            "majoring": np.maximum(left, right),
        }[self.summation_method]
        return np.asarray(np.sum((x[:-1] - x[1:]) * heights, axis=0))

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return super().get_config() | {
            "num_thresholds": self.num_thresholds,
            "curve": self.curve,
            "summation_method": self.summation_method,
            "thresholds": self._given,
            "multi_label": self.multi_label,
            "label_weights": None if self.label_weights is None else self.label_weights.tolist(),
        }


def _as_weights(weights: Any) -> Array:
    """``[labels]`` float64.

    Raises:
        TypeError: no numbers.
        ValueError: not one axis, or one below 0.
    """
    values = as_numbers(weights, "label_weights")
    if values.ndim != 1 or values.dtype.kind == "c" or not (values >= 0).all():
        raise ValueError(f"label_weights must be a list of numbers of at least 0; got {shown(weights)}")
    return values.astype(np.float64)


def _interpolated_pr(tp: Array, fp: Array, fn: Array) -> Array:
    """The area under the precision-recall curve, TP taken as linear in FP between thresholds."""
    p = tp + fp
    dtp, dp = tp[:-1] - tp[1:], p[:-1] - p[1:]
    slope = divided(dtp, np.maximum(dp, 0))
    intercept = tp[1:] - slope * p[1:]
    both = (p[:-1] > 0) & (p[1:] > 0)
    ratio = np.where(both, divided(p[:-1], p[1:]), 1.0)
    return np.asarray(np.sum(divided(slope * (dtp + intercept * np.log(ratio)), tp[1:] + fn[1:]), axis=0))
