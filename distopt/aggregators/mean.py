"""Means over all replicas."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from distopt.aggregators.base import Aggregator, replica_context
from distopt.aggregators.sum import reduce_pairs
from distopt.core.variable import Variable
from distopt.engine.update import Reduction

__all__ = ["Mean", "WeightedMean"]


class Mean(Aggregator):
    """Divides the sum over all replicas by their number: right when all have batches of one size."""

    def __call__(self, grads_and_vars: Iterable[tuple[Any, Variable]]) -> list[tuple[Any, Variable]]:
        """See Aggregator."""
        return reduce_pairs("mean", grads_and_vars)

    def reduction(self) -> Reduction:
        """All weigh 1."""
        return Reduction(weight=1)


class WeightedMean(Aggregator):
    """The mean over all examples: each replica's gradient weighs as many examples as it saw.

    Exact for batches of unequal sizes, also empty ones, when each replica's gradient is the mean
    over its own examples.

    Args:
        examples: how many examples this replica's gradients are the mean of, or a callable that
            tells it, called at each step. The attribute may be set before each step.

    Raises:
        ValueError: at a step, when it is not a count, or when all replicas have none.
    """

    def __init__(self, examples: int | Callable[[], int] = 1) -> None:
        self.examples = examples

    def _count(self) -> int:
        value = self.examples() if callable(self.examples) else self.examples
        count = int(value)
        if count != value or count < 0:
            raise ValueError(f"WeightedMean: examples must be a count, 0 or more; got {value!r}")
        return count

    def __call__(self, grads_and_vars: Iterable[tuple[Any, Variable]]) -> list[tuple[Any, Variable]]:
        """See Aggregator."""
        pairs = list(grads_and_vars)
        count = self._count()
        total = int(replica_context().all_reduce("sum", count))
        if total == 0:
            raise ValueError("WeightedMean: no replica has any example")
        weighed = [(gradient * variable.dtype.type(count), variable) for gradient, variable in pairs]
        summed = reduce_pairs("sum", weighed)
        return [(gradient / variable.dtype.type(total), variable) for gradient, variable in summed]

    def reduction(self) -> Reduction:
        """Weighs this replica's count."""
        return Reduction(weight=self._count())

    def get_config(self) -> dict[str, Any]:
        """``examples`` as it is; a callable is not kept."""
        return {} if callable(self.examples) else {"examples": self.examples}
