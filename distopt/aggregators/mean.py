"""Means over all replicas."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from distopt.aggregators.wire import WireAggregator
from distopt.collectives import EXACT
from distopt.core.dtypes import is_narrow, kind_of
from distopt.core.indexed_slices import IndexedSlices
from distopt.core.tensor import Tensor, as_array
from distopt.core.variable import Variable
from distopt.distribute import require_replica_context
from distopt.engine.reduction import FusedReduction, lowest_terms, weighted
from distopt.typing import Array

__all__ = ["Mean", "WeightedMean"]


class Mean(WireAggregator):
    """The sum over all replicas, divided by their number.

    This is the mean over all examples if all batches have the same size.

    Args:
        wire: see WireAggregator.
    """

    def __call__(self, grads_and_vars: Iterable[tuple[Any, Variable]]) -> list[tuple[Any, Variable]]:
        """See Aggregator."""
        return self._reduced("mean", grads_and_vars)

    def reduction(self) -> FusedReduction:
        """Every replica has weight 1."""
        return FusedReduction(weight=1, wire=self._wire)


class WeightedMean(WireAggregator):
    """The mean over all examples. Each replica's gradient has its number of examples as its weight.

    It is exact for batches of different sizes, including empty ones, if each replica's gradient is the mean
    over its own examples.

    Args:
        examples: the number of examples over which this replica averaged its gradients. Pass a callable to
            compute it in each step, or set the attribute before each step.
        wire: see WireAggregator.

    Raises:
        ValueError: ``wire`` is unknown. In a step: ``examples`` is not a count, or no replica has examples.
    """

    def __init__(self, examples: int | Callable[[], int] = 1, wire: str = EXACT) -> None:
        super().__init__(wire)
        self.examples = examples

    def _count(self) -> int:
        value = self.examples() if callable(self.examples) else self.examples
        count = int(value)
        if count != value or count < 0:
            raise ValueError(f"WeightedMean: examples must be a count, 0 or more; got {value!r}")
        return count

    def __call__(self, grads_and_vars: Iterable[tuple[Any, Variable]]) -> list[tuple[Any, Variable]]:
        """See Aggregator.

        Raises:
            ValueError: ``examples`` is not a count, no replica has examples, or all gradients are None.
        """
        pairs = list(grads_and_vars)
        count = self._count()
        counts = as_array(
            require_replica_context("an aggregator").all_gather(np.array([count]), axis=0)
        ).tolist()
        factor, divisor = lowest_terms(count, counts)
        if divisor == 0:
            raise ValueError("WeightedMean: cannot average over examples: no replica has any")
        summed = self._reduced("sum", [(_weighed(gradient, factor), v) for gradient, v in pairs])
        return [
            (None if total is None else _divided(total, divisor, gradient), v)
            for (gradient, _), (total, v) in zip(pairs, summed, strict=True)
        ]

    def reduction(self) -> FusedReduction:
        """The weight of a replica is its number of examples."""
        return FusedReduction(self._count(), self._wire)

    def get_config(self) -> dict[str, Any]:
        """Returns ``examples`` unchanged. A callable is left out."""
        own = {} if callable(self.examples) else {"examples": self.examples}
        return {**own, **super().get_config()}


def _weighed(gradient: Any, factor: int | None) -> Any:
    """The gradient times ``factor``, in a dtype that can hold the sum of such products."""
    return None if gradient is None else _mapped(lambda values: weighted(_wide(values), factor), gradient)


def _divided(total: Any, divisor: int | None, gradient: Any) -> Any:
    """The mean, in the dtype that the gradients have."""
    own = gradient.dtype if isinstance(gradient, IndexedSlices) else as_array(gradient).dtype
    dtype = own if kind_of(own) in "fc" else np.float64
    return _mapped(lambda values: (values / values.dtype.type(divisor or 1)).astype(dtype), total)


def _wide(values: Array) -> Array:
    if kind_of(values.dtype) not in "fc":
        return values.astype(np.float64)
    return values.astype(np.float32) if is_narrow(values.dtype) else values


def _mapped(function: Callable[[Array], Array], gradient: Any) -> Any:
    if isinstance(gradient, IndexedSlices):
        values = Tensor.from_numpy(function(as_array(gradient.values)))
        return IndexedSlices(values, gradient.indices, gradient.dense_shape)
    return Tensor.from_numpy(np.asarray(function(as_array(gradient))))
