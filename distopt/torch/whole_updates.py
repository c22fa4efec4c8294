"""WholeUpdates: the step for algorithms that need whole parameters, such as Muon."""

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
    """GroupUpdates in which one replica of a node updates each parameter, instead of all their own shards.

    Parameters are distributed over the replicas by the cost of their updates.
    """

    def _update_cost(self, variable: Variable) -> float:
        return cast(WholeUpdate, self._update_rule).cost(self._group_of(variable), variable.shape)

    def _resource_apply_dense(
        self, grad: Any, handle: Variable, apply_state: ApplyState | None = None
    ) -> None:
        assert isinstance(handle, TensorVariable)
        coefficients = (apply_state or {})[self._kind(handle)]
        known, rule = self.slots(handle), cast(WholeUpdate, self._update_rule)
        slots = {name: known[name] for name in self.slot_shapes(handle)}
        to_tensor = sorted(range(handle.ndim), key=handle.axes.__getitem__)  # the tensor's order of the axes

        def update(w: Array, g: Array, arrays: dict[str, Array]) -> None:
            """Calls the algorithm with contiguous arrays in the tensor's order of axes."""
            permuted = [np.asarray(x.transpose(to_tensor), order="C") for x in (w, g, *arrays.values())]
            rule.update(permuted[0], permuted[1], dict(zip(arrays, permuted[2:], strict=True)), coefficients)
            for array, result in zip((w, *arrays.values()), (permuted[0], *permuted[2:]), strict=True):
                if not np.may_share_memory(array, result):
                    array.transpose(to_tensor)[...] = result

        update_arrays(update, handle, as_array(grad), slots)


def updates_of(update: ParameterUpdate) -> type[GroupUpdates]:
    """The class that makes the steps of this algorithm."""
    return WholeUpdates if isinstance(update, WholeUpdate) else GroupUpdates
