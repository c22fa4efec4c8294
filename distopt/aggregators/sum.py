"""The sum over all replicas: the default."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from distopt.aggregators.base import Aggregator
from distopt.core.variable import Variable
from distopt.distribute import require_replica_context
from distopt.engine.reduction import FusedReduction

__all__ = ["Sum", "reduce_pairs", "sum_over_replicas"]


class Sum(Aggregator):
    """Sums each gradient over all replicas; None gradients keep their places."""

    def __call__(self, grads_and_vars: Iterable[tuple[Any, Variable]]) -> list[tuple[Any, Variable]]:
        """See Aggregator.

        Raises:
            ValueError: all gradients are None.
        """
        return reduce_pairs("sum", grads_and_vars)

    def reduction(self) -> FusedReduction:
        """A plain sum."""
        return FusedReduction()


def reduce_pairs(op: str, grads_and_vars: Iterable[tuple[Any, Variable]]) -> list[tuple[Any, Variable]]:
    """The pairs with every gradient reduced over all replicas; None gradients keep their places."""
    pairs = list(grads_and_vars)
    present = [gradient for gradient, _ in pairs if gradient is not None]
    if pairs and not present:
        raise ValueError(f"No gradients provided for any variable: {[v.name for _, v in pairs]}")
    reduced = iter(require_replica_context("an aggregator").all_reduce(op, present))
    return [(None if gradient is None else next(reduced), variable) for gradient, variable in pairs]


#: The default aggregator.
sum_over_replicas = Sum()
