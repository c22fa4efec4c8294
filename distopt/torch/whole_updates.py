"""WholeUpdates: the step over all replicas, for algorithms that need whole parameters."""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from distopt.core.tensor import as_array
from distopt.core.variable import Variable
from distopt.optimizers.optimizer import ApplyState
from distopt.optimizers.whole_variable import update_arrays
from distopt.torch.parameter import TensorVariable
from distopt.torch.rules.update_rule import ParameterUpdate, WholeUpdate
from distopt.torch.updates import GroupUpdates
from distopt.typing import Array

__all__ = ["WholeUpdates", "updates_of"]


class WholeUpdates(GroupUpdates):
    """As its base, but one replica of a node updates each parameter. Their cost decides which one."""

    def _update_cost(self, variable: Variable) -> float:
        return cast(WholeUpdate, self._update_rule).cost(self._group_of(variable), variable.shape)

    def _resource_apply_dense(
        self, grad: Any, handle: Variable, apply_state: ApplyState | None = None
    ) -> None:
        assert isinstance(handle, TensorVariable)
        numbers = (apply_state or {})[self._kind(handle)]
        known, rule = self.slots(handle), cast(WholeUpdate, self._update_rule)
        slots = {name: known[name] for name in self.slot_shapes(handle)}
        back = sorted(range(handle.ndim), key=handle.axes.__getitem__)

        def update(w: Array, g: Array, arrays: dict[str, Array]) -> None:
            """In the order of the tensor's axes, contiguous."""
            turned = [np.asarray(x.transpose(back), order="C") for x in (w, g, *arrays.values())]
            rule.update(turned[0], turned[1], dict(zip(arrays, turned[2:], strict=True)), numbers)
            for array, result in zip((w, *arrays.values()), (turned[0], *turned[2:]), strict=True):
                if not np.may_share_memory(array, result):
                    array.transpose(back)[...] = result

        update_arrays(update, handle, as_array(grad), slots)


def updates_of(update: ParameterUpdate) -> type[GroupUpdates]:
    """What makes the steps of an algorithm."""
    return WholeUpdates if isinstance(update, WholeUpdate) else GroupUpdates
