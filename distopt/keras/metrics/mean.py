"""Sums and means of values, and of what a function makes of labels and predictions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from distopt.core.checks import as_name
from distopt.core.tensor import Tensor, as_array
from distopt.keras.metrics.metric import Metric
from distopt.keras.values import fit_weight, squeeze_ranks, untraced
from distopt.typing import Array, DTypeLike

__all__ = ["Mean", "MeanMetricWrapper", "Sum", "divided"]


def divided(numerator: Any, denominator: Any) -> Array:
    """``numerator / denominator``, 0 where the denominator is 0."""
    top, bottom = np.asarray(numerator, np.float64), np.asarray(denominator, np.float64)
    shape = np.broadcast_shapes(top.shape, bottom.shape)
    return np.divide(top, bottom, out=np.zeros(shape), where=bottom != 0)


def _weighted(values: Any, sample_weight: Any) -> tuple[float, float]:
    """The weighted sum of the values and the sum of the weights, in float64."""
    array = as_array(values).astype(np.float64)
    if sample_weight is None:
        return float(array.sum()), float(array.size)
    weight = as_array(fit_weight(sample_weight, array)).astype(np.float64)
    weight = np.broadcast_to(weight, np.broadcast_shapes(weight.shape, array.shape))
    return float((array * weight).sum()), float(weight.sum())


class Sum(Metric):
    """The weighted sum of values.

    Args:
        name: a label.
        dtype: the result's dtype.
    """

    def __init__(self, name: str = "sum", dtype: DTypeLike | None = None) -> None:
        super().__init__(name, dtype)
        self.total = self.add_weight("total")

    def update_state(self, values: Any, sample_weight: Any = None) -> None:
        """Adds values of any shape, with weights that broadcast to it."""
        self.total.assign_add(_weighted(values, sample_weight)[0])

    def result(self) -> Tensor:
        """The sum over all batches and replicas."""
        return self._tensor(self.total.numpy())


class Mean(Metric):
    """The weighted mean of values; 0 before any came.

    Args:
        name: a label.
        dtype: the result's dtype.

    >>> m = Mean()
    >>> float(m([1.0, 3.0], sample_weight=[3.0, 1.0]))
    1.5
    """

    def __init__(self, name: str = "mean", dtype: DTypeLike | None = None) -> None:
        super().__init__(name, dtype)
        self.total = self.add_weight("total")
        self.count = self.add_weight("count")

    def update_state(self, values: Any, sample_weight: Any = None) -> None:
        """Adds values of any shape, with weights that broadcast to it."""
        total, count = _weighted(values, sample_weight)
        self.total.assign_add(total)
        self.count.assign_add(count)

    def result(self) -> Tensor:
        """The mean over all batches and replicas."""
        return self._tensor(divided(self.total.numpy(), self.count.numpy()))


class MeanMetricWrapper(Metric):
    """The weighted mean of a function ``(y_true, y_pred, **arguments) -> values``.

    Args:
        fn: the function; a loss may stand in its place.
        name: a label, the function's name by default.
        dtype: the result's dtype.
        kwargs: handed on to ``fn``.
    """

    def __init__(
        self, fn: Callable[..., Any], name: str | None = None, dtype: DTypeLike | None = None, **kwargs: Any
    ) -> None:
        super().__init__(as_name(name) or getattr(fn, "__name__", None), dtype)
        self._fn = fn
        self._fn_kwargs = kwargs
        self.total = self.add_weight("total")
        self.count = self.add_weight("count")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Adds a batch.

        Args:
            y_true: ``[batch, ...]`` labels.
            y_pred: ``[batch, ...]`` predictions.
            sample_weight: a number, ``[batch]``, or the shape of the function's values.
        """
        # An open tape need not follow what is only counted.
        y_true, y_pred = squeeze_ranks(untraced(y_true), untraced(y_pred))
        total, count = _weighted(self._fn(y_true, y_pred, **self._fn_kwargs), sample_weight)
        self.total.assign_add(total)
        self.count.assign_add(count)

    def result(self) -> Tensor:
        """The mean over all batches and replicas."""
        return self._tensor(divided(self.total.numpy(), self.count.numpy()))

    def get_config(self) -> dict[str, Any]:
        """Name and dtype, then the function's arguments."""
        return super().get_config() | self._fn_kwargs
