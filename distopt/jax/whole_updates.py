"""WholeTreeUpdates: the step for algorithms that need whole leaves, such as Muon."""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from distopt.core.tensor import as_array
from distopt.core.variable import Variable
from distopt.engine.update import update_variable
from distopt.jax.rules.leaf_rule import LeafRule, LeafUpdate, WholeLeafUpdate
from distopt.jax.rules.schedule_free import ScheduleFreeRule
from distopt.jax.schedule_free_updates import ScheduleFreeUpdates
from distopt.jax.updates import TreeUpdates
from distopt.optimizers.optimizer import ApplyState
from distopt.optimizers.whole_variable import check_real, update_arrays
from distopt.typing import Array

__all__ = ["WholeTreeUpdates", "updates_of"]


class WholeTreeUpdates(TreeUpdates):
    """TreeUpdates in which one replica of a node updates each leaf, instead of all their own shards.

    Leaves are distributed over the replicas by the cost of their updates.
    """

    def _update_cost(self, variable: Variable) -> float:
        rule = self._rule_of(variable)
        return rule.cost(variable.shape) if isinstance(rule, WholeLeafUpdate) else float(variable.size)

    def _create_slots(self, var_list: list[Variable]) -> None:
        for variable in var_list:
            check_real(variable, self._name)
        super()._create_slots(var_list)

    def _resource_apply_dense(
        self, grad: Any, handle: Variable, apply_state: ApplyState | None = None
    ) -> None:
        rule = self._rule_of(handle)
        if isinstance(rule, LeafRule):  # some leaves may have an elementwise rule, as with Muon
            compiled, coefficients = self._step_rule(*self._kind(handle), apply_state)
            state = (handle, *(self.slots(handle)[name] for name in compiled.slots))
            update_variable(compiled, state, np.asarray(as_array(grad), order="C"), coefficients)
            return
        whole = cast(WholeLeafUpdate, rule)
        coefficients_by_name = (apply_state or {})[self._kind(handle)]
        known = self.slots(handle)
        slots = {name: known[name] for name in whole.slot_shapes(handle.shape)}

        def update(w: Array, g: Array, arrays: dict[str, Array]) -> None:
            whole.update(w, g, arrays, coefficients_by_name)

        update_arrays(update, handle, as_array(grad), slots)


def updates_of(rule: LeafUpdate) -> type[TreeUpdates]:
    """The class that makes the steps of this algorithm."""
    if isinstance(rule, ScheduleFreeRule):
        return ScheduleFreeUpdates
    return WholeTreeUpdates if isinstance(rule, WholeLeafUpdate) else TreeUpdates
