"""WholeTreeUpdates: the step over all replicas, for algorithms that need whole leaves."""

from __future__ import annotations

from typing import Any, cast

from distopt.core.tensor import as_array
from distopt.core.variable import Variable
from distopt.jax.rules.leaf_rule import LeafUpdate, WholeLeafUpdate
from distopt.jax.updates import TreeUpdates
from distopt.optimizers.optimizer import ApplyState
from distopt.optimizers.whole_variable import check_real, update_arrays
from distopt.typing import Array

__all__ = ["WholeTreeUpdates", "updates_of"]


class WholeTreeUpdates(TreeUpdates):
    """As its base, but each leaf is updated by one replica of a node, dealt out by what that costs."""

    def _update_cost(self, variable: Variable) -> float:
        return cast(WholeLeafUpdate, self._leaf_rule).cost(variable.shape)

    def _create_slots(self, var_list: list[Variable]) -> None:
        for variable in var_list:
            check_real(variable, self._name)
        super()._create_slots(var_list)

    def _resource_apply_dense(
        self, grad: Any, handle: Variable, apply_state: ApplyState | None = None
    ) -> None:
        rule = cast(WholeLeafUpdate, self._leaf_rule)
        numbers = (apply_state or {})[self._kind(handle)]
        known = self.slots(handle)
        slots = {name: known[name] for name in rule.slot_shapes(handle.shape)}

        def update(w: Array, g: Array, arrays: dict[str, Array]) -> None:
            rule.update(w, g, arrays, numbers)

        update_arrays(update, handle, as_array(grad), slots)


def updates_of(rule: LeafUpdate) -> type[TreeUpdates]:
    """What makes the steps of an algorithm."""
    return WholeTreeUpdates if isinstance(rule, WholeLeafUpdate) else TreeUpdates
