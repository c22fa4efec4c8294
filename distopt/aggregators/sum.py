"""The sum over all replicas, which is the default."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from distopt.aggregators.wire import WireAggregator
from distopt.core.variable import Variable
from distopt.engine.reduction import FusedReduction

__all__ = ["Sum", "sum_over_replicas"]


class Sum(WireAggregator):
    """The sum of each gradient over all replicas. Gradients that are None stay None.

    Args:
        wire: see WireAggregator.
    """

    def __call__(self, grads_and_vars: Iterable[tuple[Any, Variable]]) -> list[tuple[Any, Variable]]:
        """See Aggregator.

        Raises:
            ValueError: all gradients are None.
        """
        return self._reduced("sum", grads_and_vars)

    def reduction(self) -> FusedReduction:
        """A plain sum."""
        return FusedReduction(wire=self._wire)


#: The default aggregator.
sum_over_replicas = Sum()
