"""Precision, recall and the counts that they are made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from distopt.core.checks import as_count
from distopt.core.tensor import Tensor
from distopt.keras.metrics.confusion import as_thresholds, confusion_counts
from distopt.keras.metrics.mean import divided
from distopt.keras.metrics.metric import Metric
from distopt.typing import Array, DTypeLike

__all__ = ["FalseNegatives", "FalsePositives", "Precision", "Recall", "TrueNegatives", "TruePositives"]


class _Counts(Metric):
    """Counts at thresholds; the result has one number for each, or is a scalar for one that is no list."""

    def __init__(
        self,
        thresholds: float | Sequence[float] | None,
        top_k: int | None,
        class_id: int | None,
        name: str | None,
        dtype: DTypeLike | None,
    ) -> None:
        super().__init__(name, dtype)
        self.init_thresholds = thresholds
        self.top_k = None if top_k is None else as_count(top_k, "top_k")
        self.class_id = None if class_id is None else as_count(class_id, "class_id", least=0)
        # With top_k every one of the k largest is positive, however small, unless thresholds are given.
        default = np.array([0.5 if top_k is None else -1.0])
        self._at = default if thresholds is None else as_thresholds(thresholds)
        n = len(self._at)
        self.true_positives = self.add_weight("true_positives", (n,))
        self.false_positives = self.add_weight("false_positives", (n,))
        self.true_negatives = self.add_weight("true_negatives", (n,))
        self.false_negatives = self.add_weight("false_negatives", (n,))

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Adds a batch.

        Args:
            y_true: labels 0 and 1 of any shape.
            y_pred: values from 0 to 1, the same shape.
            sample_weight: None, a number, ``[batch]``, or the labels' shape.

        Raises:
            ValueError: predictions are outside [0, 1], or shapes do not match.
        """
        counts = confusion_counts(y_true, y_pred, self._at, sample_weight, self.top_k, self.class_id)
        for variable, count in zip(self.weights, counts, strict=True):
            variable.assign_add(count)

    def _one_or_many(self, values: Array) -> Tensor:
        return self._tensor(values if isinstance(self.init_thresholds, (list, tuple)) else values[0])


class Precision(_Counts):
    """The fraction of positive predictions that are correct; 0 if there are none.

    Args:
        thresholds: predictions above it are positive. By default 0.5. A list gives a list of results.
        top_k: only the ``top_k`` largest predictions of a sample can be positive.
        class_id: the only class to count, or None for all.
        name: a name.
        dtype: the result's dtype.

    Raises:
        ValueError: a threshold is outside [0, 1].
    """

    def __init__(
        self,
        thresholds: float | Sequence[float] | None = None,
        top_k: int | None = None,
        class_id: int | None = None,
        name: str | None = None,
        dtype: DTypeLike | None = None,
    ) -> None:
        super().__init__(thresholds, top_k, class_id, name, dtype)

    def result(self) -> Tensor:
        """TP / (TP + FP) over all batches and replicas."""
        right = self.true_positives.numpy()
        return self._one_or_many(divided(right, right + self.false_positives.numpy()))

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        own = {"thresholds": self.init_thresholds, "top_k": self.top_k, "class_id": self.class_id}
        return super().get_config() | own


class Recall(_Counts):
    """The fraction of positive labels that were predicted; 0 if there are none.

    Args:
        thresholds: predictions above it are positive. By default 0.5. A list gives a list of results.
        top_k: only the ``top_k`` largest predictions of a sample can be positive.
        class_id: the only class to count, or None for all.
        name: a name.
        dtype: the result's dtype.

    Raises:
        ValueError: a threshold is outside [0, 1].
    """

    def __init__(
        self,
        thresholds: float | Sequence[float] | None = None,
        top_k: int | None = None,
        class_id: int | None = None,
        name: str | None = None,
        dtype: DTypeLike | None = None,
    ) -> None:
        super().__init__(thresholds, top_k, class_id, name, dtype)

    def result(self) -> Tensor:
        """TP / (TP + FN) over all batches and replicas."""
        right = self.true_positives.numpy()
        return self._one_or_many(divided(right, right + self.false_negatives.numpy()))

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        own = {"thresholds": self.init_thresholds, "top_k": self.top_k, "class_id": self.class_id}
        return super().get_config() | own


class _OneCount(_Counts):
    _which = 0

    def __init__(
        self,
        thresholds: float | Sequence[float] | None = None,
        name: str | None = None,
        dtype: DTypeLike | None = None,
    ) -> None:
        super().__init__(thresholds, None, None, name, dtype)

    def result(self) -> Tensor:
        """The count over all batches and replicas."""
        return self._one_or_many(self.weights[self._which].numpy())

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return super().get_config() | {"thresholds": self.init_thresholds}


class TruePositives(_OneCount):
    """The weighted number of positives that were predicted positive."""

    _which = 0


class FalsePositives(_OneCount):
    """The weighted number of negatives that were predicted positive."""

    _which = 1


class TrueNegatives(_OneCount):
    """The weighted number of negatives that were predicted negative."""

    _which = 2


class FalseNegatives(_OneCount):
    """The weighted number of positives that were predicted negative."""

    _which = 3
