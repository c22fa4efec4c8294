"""Residuals: what a compression has left out of each variable's gradients, one a node (error feedback).

A node's residual is the sum over its replicas: after a step one of them has all of it, the others zero. So it
follows the variables' rules: a checkpoint has all values, and at another number of replicas keeps their sum.
"""

from __future__ import annotations

from collections.abc import Iterable
from weakref import WeakKeyDictionary

import numpy as np

from distopt.core.placement import placement
from distopt.core.tensor import as_array
from distopt.core.variable import Variable, VariableAggregation, VariableSynchronization
from distopt.distribute import ReplicaContext
from distopt.typing import Array

__all__ = ["Residuals"]


class Residuals:
    """Those of one aggregator.

    Args:
        name: what their names end with.
    """

    def __init__(self, name: str = "residual") -> None:
        self._name = name
        self._all: dict[int, tuple[Variable, Variable]] = {}

    def add(self, variable: Variable) -> None:
        """Makes a residual, zero, for a variable that has none."""
        if id(variable) not in self._all:
            residual = Variable(
                np.zeros(variable.shape, variable.dtype),
                trainable=False,
                name=f"{variable.name.removesuffix(':0')}/{self._name}",
                synchronization=VariableSynchronization.ON_READ,
                aggregation=VariableAggregation.SUM,
            )
            self._all[id(variable)] = variable, residual

    def __contains__(self, variable: Variable) -> bool:
        return id(variable) in self._all

    @property
    def weights(self) -> list[Variable]:
        """The variables that hold them."""
        return [residual for _, residual in self._all.values()]

    def own(self, variable: Variable) -> Array:
        """This replica's part, to be read and written in place."""
        return as_array(self._all[id(variable)][1])

    # -- reading
    def of_node(self, context: ReplicaContext, variables: Iterable[Variable]) -> dict[int, Array]:
        """The node's residuals of variables, by id, for whoever has held them; collective in the node.

        Empty if they are where the last step has put them, so that each owner has its own.
        """
        if context.node.size == 1 or not _any(context.node.all_gather(self._moved(context), axis=0)):
            return {}
        chosen = list(variables)
        totals = context.node.all_reduce("sum", [self.own(v) for v in chosen])
        return {id(v): np.array(as_array(total)) for v, total in zip(chosen, totals, strict=True)}

    def of_job(self, context: ReplicaContext, variables: Iterable[Variable]) -> dict[int, Array]:
        """The sums over all nodes that are not zero, by id; collective.

        Looked at only if something has changed them since the last step, such as a checkpoint.
        """
        chosen = list(variables)
        if not chosen or not _any(context.all_gather(self._moved(context), axis=0)):
            return {}
        totals = context.all_reduce("sum", [self.own(v) for v in chosen])
        found = {id(v): as_array(total) for v, total in zip(chosen, totals, strict=True)}
        return {key: total for key, total in found.items() if total.any()}

    def _moved(self, context: ReplicaContext) -> Array:
        """Whether this replica has something that the last step has not left, ``[1]``."""
        seen = _seen(context)
        if seen.get(self) == self._versions():
            return np.zeros(1, np.int8)
        moved = any(_stored(residual).any() for residual in self.weights)
        if not moved:
            seen[self] = self._versions()
        return np.array([moved], np.int8)

    # -- writing
    def written(self, variable: Variable) -> None:
        """Notes that the own part was written to."""
        self._all[id(variable)][1].storage.changed()

    def clear(self, variable: Variable) -> None:
        """Makes the own part zero."""
        residual = self._all[id(variable)][1]
        if _stored(residual).any():
            residual.assign(np.zeros(residual.shape, residual.dtype))

    def settle(self, context: ReplicaContext) -> None:
        """Notes that all are where a step has put them."""
        _seen(context)[self] = self._versions()

    def _versions(self) -> tuple[int, ...]:
        return tuple([residual.storage.version for residual in self.weights])


def _seen(context: ReplicaContext) -> WeakKeyDictionary[Residuals, tuple[int, ...]]:
    """The versions after each one's last step; of the replica, whoever shares the aggregator with it."""
    seen: WeakKeyDictionary[Residuals, tuple[int, ...]] = context.attached.setdefault(
        Residuals, WeakKeyDictionary()
    )
    return seen


def _stored(residual: Variable) -> Array:
    """The own part, without memory of its own for one that was never written to."""
    storage = residual.storage
    replica = placement().replica(storage.owner)
    own = storage.per_replica or {}
    return storage.array if replica is None else own.get(replica, storage.array)


def _any(flags: object) -> bool:
    return bool(np.any(np.asarray(flags)))
