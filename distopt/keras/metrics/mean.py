"""Sums and means of values, and of what a function makes of labels and predictions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from distopt.core.checks import as_name, as_shape
from distopt.core.keywords import argument_names, check_arguments
from distopt.core.tensor import Tensor, as_array
from distopt.core.variable import Variable
from distopt.keras.metrics.metric import Metric
from distopt.keras.values import as_reals, fit_weight, squeeze_ranks, tensor
from distopt.typing import Array, DTypeLike

__all__ = ["Mean", "MeanMetricWrapper", "MeanTensor", "Sum", "divided"]


def divided(numerator: Any, denominator: Any) -> Array:
    """``numerator / denominator``, 0 where the denominator is 0."""
    top, bottom = np.asarray(numerator, np.float64), np.asarray(denominator, np.float64)
    shape = np.broadcast_shapes(top.shape, bottom.shape)
    return np.divide(top, bottom, out=np.zeros(shape), where=bottom != 0)


def _weighted(values: Any, sample_weight: Any) -> tuple[float, float]:
    """The weighted sum of the values and the sum of the weights, in float64."""
    array = as_reals(values, "values").astype(np.float64)
    if sample_weight is None:
        return float(array.sum()), float(array.size)
    weight = as_array(fit_weight(sample_weight, array)).astype(np.float64)
    weight = np.broadcast_to(weight, np.broadcast_shapes(weight.shape, array.shape))
    return float((array * weight).sum()), float(weight.sum())


class Sum(Metric):
    """The weighted sum of values.

    Args:
        name: a name.
        dtype: the result's dtype.
    """

    def __init__(self, name: str = "sum", dtype: DTypeLike | None = None) -> None:
        super().__init__(name, dtype)
        self.total = self.add_weight("total")

    def update_state(self, values: Any, sample_weight: Any = None) -> None:
        """Adds values of any shape, with weights that broadcast to that shape."""
        self.total.assign_add(_weighted(values, sample_weight)[0])

    def result(self) -> Tensor:
        """The sum over all batches and replicas."""
        return self._tensor(self.total.numpy())


class Mean(Metric):
    """The weighted mean of values; 0 if there are none.

    Args:
        name: a name.
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
        """Adds values of any shape, with weights that broadcast to that shape."""
        total, count = _weighted(values, sample_weight)
        self.total.assign_add(total)
        self.count.assign_add(count)

    def result(self) -> Tensor:
        """The mean over all batches and replicas."""
        return self._tensor(divided(self.total.numpy(), self.count.numpy()))


class MeanTensor(Metric):
    """The elementwise weighted mean of values.

    Args:
        name: a name.
        dtype: the result's dtype.
        shape: the shape of the values. By default that of the first values. It is required if a replica may
            see no values.

    >>> m = MeanTensor()
    >>> m.update_state([0.0, 4.0])
    >>> m([2.0, 0.0]).numpy().tolist()
    [1.0, 2.0]
    """

    total: Variable
    count: Variable

    def __init__(
        self, name: str = "mean_tensor", dtype: DTypeLike | None = None, shape: Sequence[int] | None = None
    ) -> None:
        super().__init__(name, dtype)
        self._given = None if shape is None else as_shape(shape)
        if self._given is not None:
            self._build(self._given)

    def _build(self, shape: tuple[int, ...]) -> None:
        self.total = self.add_weight("total", shape)
        self.count = self.add_weight("count", shape)

    def update_state(self, values: Any, sample_weight: Any = None) -> None:
        """Adds values, with weights that broadcast to them.

        Raises:
            ValueError: the shape differs from that of the first values.
        """
        array = as_reals(values, "values").astype(np.float64)
        if not self.weights:
            self._build(array.shape)
        if array.shape != self.total.shape:
            raise ValueError(
                f"metric {self.name!r} has values of shape {self.total.shape}; got shape {array.shape}"
            )
        weight = np.ones(array.shape)
        if sample_weight is not None:
            weight = np.broadcast_to(as_array(fit_weight(sample_weight, array)), array.shape) * weight
        self.total.assign_add(array * weight)
        self.count.assign_add(weight)

    def result(self) -> Tensor:
        """The mean over all batches and replicas.

        Raises:
            ValueError: there are no values yet.
        """
        if not self.weights:
            raise ValueError(
                "MeanTensor does not have any result yet. Please call the MeanTensor instance or use "
                "`.update_state(value)` before retrieving the result."
            )
        return self._tensor(divided(self.total.numpy(), self.count.numpy()))

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return super().get_config() | ({} if self._given is None else {"shape": list(self._given)})


class MeanMetricWrapper(Metric):
    """The weighted mean of the values of a function ``(y_true, y_pred, **arguments) -> values``.

    Args:
        fn: the function, or a loss.
        name: a name. By default that of the function.
        dtype: the result's dtype.
        kwargs: arguments for ``fn``.
    """

    def __init__(
        self, fn: Callable[..., Any], name: str | None = None, dtype: DTypeLike | None = None, **kwargs: Any
    ) -> None:
        super().__init__(as_name(name) or getattr(fn, "__name__", None), dtype)
        check_arguments(type(self), fn, kwargs, argument_names(type(self)))
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
        labels, predictions = tensor(as_reals(y_true, "y_true")), tensor(as_reals(y_pred, "y_pred"))
        y_true, y_pred = squeeze_ranks(labels, predictions)
        total, count = _weighted(self._fn(y_true, y_pred, **self._fn_kwargs), sample_weight)
        self.total.assign_add(total)
        self.count.assign_add(count)

    def result(self) -> Tensor:
        """The mean over all batches and replicas."""
        return self._tensor(divided(self.total.numpy(), self.count.numpy()))

    def get_config(self) -> dict[str, Any]:
        """Returns the name, the dtype and the arguments of the function."""
        return super().get_config() | self._fn_kwargs
