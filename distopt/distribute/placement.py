"""StrategyPlacement: which replicas have values of a variable, under the active strategy."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import numpy as np

from distopt.core.placement import Placement
from distopt.core.variable import Variable, VariableAggregation
from distopt.distribute.context import ReplicaContext
from distopt.distribute.frames import current_frame, frame
from distopt.distribute.strategy import Strategy
from distopt.typing import Array

__all__ = ["StrategyPlacement"]

_OPS = {VariableAggregation.SUM: "sum", VariableAggregation.MEAN: "mean"}


class StrategyPlacement(Placement):
    """The Placement of the current frame."""

    def owner(self) -> object | None:
        """See Placement."""
        here = current_frame()
        return here.strategy if here.context is None and here.strategy.local_replicas > 1 else None

    def replica(self, owner: object | None = None) -> int | None:
        """See Placement."""
        here = current_frame()
        if here.context is None or (owner is not None and here.strategy is not owner):
            return None
        return here.context.job.world.local.rank

    def chief(self) -> bool:
        """See Placement."""
        context = current_frame().context
        return context is None or context.job.replica_id_in_sync_group == 0

    def made_for(self, owner: object | None) -> AbstractContextManager[None]:
        """See Placement."""
        return frame(owner, None, "scope") if isinstance(owner, Strategy) else nullcontext()

    def combine(self, variable: Variable, value: Array) -> Array:
        """See Placement.

        Raises:
            ValueError: the aggregation is NONE, and the variable is one for all replicas.
        """
        context = current_frame().context
        assert context is not None
        if variable.aggregation is VariableAggregation.NONE:
            raise ValueError(
                f"You must specify an aggregation method to update variable {variable.name!r} in replica "
                f"context: it was made in the strategy's scope, one for all replicas. Pass aggregation=... "
                f"to Variable, or make it inside run()"
            )
        if variable.aggregation is VariableAggregation.ONLY_FIRST_REPLICA:
            return np.asarray(context.broadcast(value))
        return np.asarray(context.all_reduce(_OPS[variable.aggregation], value)).astype(value.dtype)

    def aggregated(self, variable: Variable, values: list[Array]) -> Array:
        """See Placement.

        Raises:
            ValueError: the aggregation is NONE.
        """
        if variable.aggregation is VariableAggregation.NONE:
            raise ValueError(
                f"variable {variable.name!r} has one value on each replica and aggregation NONE: it can be "
                f"read in replica context only, or made with aggregation=..."
            )

        def read(context: ReplicaContext, _: object) -> Array:
            index = context.world.local.rank
            return self.combine(variable, values[index] if index < len(values) else values[0])

        strategy = _strategy_of(variable)
        result = strategy.experimental_local_results(strategy._on_replicas(None, read))[0]
        return np.asarray(result)

    def divided(self, variable: Variable, value: Array) -> Array:
        """See Placement."""
        if variable.aggregation is not VariableAggregation.SUM:
            return value
        return np.asarray(value / _strategy_of(variable).num_replicas_in_sync).astype(value.dtype)


def _strategy_of(variable: Variable) -> Strategy:
    """The strategy whose replicas have their own values of the variable; else the active strategy."""
    owner = variable.storage.owner
    return owner if isinstance(owner, Strategy) else current_frame().strategy
