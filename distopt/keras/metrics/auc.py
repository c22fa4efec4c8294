"""AUC: the area under the ROC or precision-recall curve."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from distopt.core.checks import as_count, as_one_of
from distopt.core.tensor import Tensor
from distopt.keras.metrics.confusion import as_thresholds, confusion_counts
from distopt.keras.metrics.mean import divided
from distopt.keras.metrics.metric import Metric
from distopt.typing import Array, DTypeLike

__all__ = ["AUC"]


class AUC(Metric):
    """The area under a curve, from counts at thresholds.

    Args:
        num_thresholds: how many thresholds, at least 2, evenly spaced.
        curve: "ROC" or "PR".
        summation_method: "interpolation" (trapezoids for ROC; Davis and Goadrich 2006 for PR), "minoring" or
            "majoring" (the lower or the higher end of each interval).
        name: a label.
        dtype: the result's dtype.
        thresholds: the inner thresholds, instead of evenly spaced ones.

    Raises:
        ValueError: an argument is none of these.
    """

    def __init__(
        self,
        num_thresholds: int = 200,
        curve: str = "ROC",
        summation_method: str = "interpolation",
        name: str | None = None,
        dtype: DTypeLike | None = None,
        thresholds: Sequence[float] | None = None,
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
        n = self.num_thresholds = len(self._at)
        self.true_positives = self.add_weight("true_positives", (n,))
        self.false_positives = self.add_weight("false_positives", (n,))
        self.true_negatives = self.add_weight("true_negatives", (n,))
        self.false_negatives = self.add_weight("false_negatives", (n,))

    @property
    def thresholds(self) -> list[float]:
        """All thresholds, increasing."""
        return [float(t) for t in self._at]

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Adds a batch.

        Args:
            y_true: labels 0 and 1 of any shape.
            y_pred: values from 0 to 1, the same shape.
            sample_weight: None, a number, ``[batch]``, or the labels' shape.

        Raises:
            ValueError: predictions outside [0, 1], or shapes that do not fit.
        """
        counts = confusion_counts(y_true, y_pred, self._at, sample_weight)
        for variable, count in zip(self.weights, counts, strict=True):
            variable.assign_add(count)

    def result(self) -> Tensor:
        """The area, from the counts over all batches and replicas."""
        tp, fp, tn, fn = (v.numpy() for v in self.weights)
        if self.curve == "PR" and self.summation_method == "interpolation":
            return self._tensor(_interpolated_pr(tp, fp, fn))
        recall = divided(tp, tp + fn)
        x, y = (divided(fp, fp + tn), recall) if self.curve == "ROC" else (recall, divided(tp, tp + fp))
        left, right = y[:-1], y[1:]
        heights = {
            "interpolation": (left + right) / 2,
            "minoring": np.minimum(left, right),
            "majoring": np.maximum(left, right),
        }[self.summation_method]
        return self._tensor(np.sum((x[:-1] - x[1:]) * heights))

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return super().get_config() | {
            "num_thresholds": self.num_thresholds,
            "curve": self.curve,
            "summation_method": self.summation_method,
            "thresholds": self._given,
        }


def _interpolated_pr(tp: Array, fp: Array, fn: Array) -> float:
    """The area under the precision-recall curve, TP taken as linear in FP between thresholds."""
    p = tp + fp
    dtp, dp = tp[:-1] - tp[1:], p[:-1] - p[1:]
    slope = divided(dtp, np.maximum(dp, 0))
    intercept = tp[1:] - slope * p[1:]
    both = (p[:-1] > 0) & (p[1:] > 0)
    ratio = np.where(both, divided(p[:-1], p[1:]), 1.0)
    return float(np.sum(divided(slope * (dtp + intercept * np.log(ratio)), tp[1:] + fn[1:])))
