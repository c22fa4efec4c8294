"""Residuals: what a compression leaves out of each variable's gradients, one per node (error feedback).

A node's residual is the sum over its replicas. After a step, one of them holds all of it and the others
hold zero. Residuals follow the rules of variables: a checkpoint has all values, and their sum is kept if
the number of replicas changes.
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
    """The residuals of one aggregator.

    Args:
        name: the suffix of their names.
    """

    def __init__(self, name: str = "residual") -> None:
        self._name = name
        self._all: dict[int, tuple[Variable, Variable]] = {}

    def add(self, variable: Variable) -> None:
        """Creates a zero residual for a variable that does not have one."""
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
        """The variables that hold the residuals."""
        return [residual for _, residual in self._all.values()]

    def own(self, variable: Variable) -> Array:
        """This replica's part, to read and to write in place."""
        return as_array(self._all[id(variable)][1])

    # -- reading
    def of_node(self, context: ReplicaContext, variables: Iterable[Variable]) -> dict[int, Array]:
        """The node's residuals of the variables, by id, whichever replica holds them; collective in the node.

        It is empty if each residual is where the last step has put it, so that every owner has its own.
        """
        if context.node.size == 1 or not _any(context.node.all_gather(self._moved(context), axis=0)):
            return {}
        chosen = list(variables)
        totals = context.node.all_reduce("sum", [self.own(v) for v in chosen])
        return {id(v): np.array(as_array(total)) for v, total in zip(chosen, totals, strict=True)}

    def of_job(self, context: ReplicaContext, variables: Iterable[Variable]) -> dict[int, Array]:
        """The sums over all nodes that are not zero, by id; collective.

        They are computed only if something, such as a checkpoint, has changed them since the last step.
        """
        chosen = list(variables)
        if not chosen or not _any(context.all_gather(self._moved(context), axis=0)):
            return {}
        totals = context.all_reduce("sum", [self.own(v) for v in chosen])
        found = {id(v): as_array(total) for v, total in zip(chosen, totals, strict=True)}
        return {key: total for key, total in found.items() if total.any()}

    def _moved(self, context: ReplicaContext) -> Array:
        """Whether this replica's values differ from those that the last step left, ``[1]``."""
        seen = _seen(context)
        if seen.get(self) == self._versions():
            return np.zeros(1, np.int8)
        moved = any(_stored(residual).any() for residual in self.weights)
        if not moved:
            seen[self] = self._versions()
        return np.array([moved], np.int8)

    # -- writing
    def written(self, variable: Variable) -> None:
        """Records that this replica's part has been written to."""
        self._all[id(variable)][1].storage.changed()

    def clear(self, variable: Variable) -> None:
        """Sets this replica's part to zero."""
        residual = self._all[id(variable)][1]
        if _stored(residual).any():
            residual.assign(np.zeros(residual.shape, residual.dtype))

    def settle(self, context: ReplicaContext) -> None:
        """Records that all residuals are where a step has put them."""
        _seen(context)[self] = self._versions()

    def _versions(self) -> tuple[int, ...]:
        return tuple([residual.storage.version for residual in self.weights])


def _seen(context: ReplicaContext) -> WeakKeyDictionary[Residuals, tuple[int, ...]]:
    """The versions after each residual's last step; each replica has its own."""
    seen: WeakKeyDictionary[Residuals, tuple[int, ...]] = context.attached.setdefault(
        Residuals, WeakKeyDictionary()
    )
    return seen


def _stored(residual: Variable) -> Array:
    """This replica's part, without allocating memory for one that was never written to."""
    storage = residual.storage
    replica = placement().replica(storage.owner)
    own = storage.per_replica or {}
    return storage.array if replica is None else own.get(replica, storage.array)


def _any(flags: object) -> bool:
    return bool(np.any(np.asarray(flags)))
