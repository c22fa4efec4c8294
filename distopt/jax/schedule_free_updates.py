"""ScheduleFreeUpdates: the step of schedule-free algorithms, which average z over steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

import numpy as np

from distopt.core.dtypes import is_narrow
from distopt.core.tensor import as_array
from distopt.core.variable import Variable
from distopt.engine.schedule_free import Z
from distopt.jax.rates import value_at
from distopt.jax.rules.schedule_free import ScheduleFreeRule, mean_of_z
from distopt.jax.updates import TreeUpdates
from distopt.optimizers.optimizer import ApplyState
from distopt.typing import Array, Shape

__all__ = ["ScheduleFreeUpdates"]


class ScheduleFreeUpdates(TreeUpdates):
    """TreeUpdates that also keeps optax's scalars ``max_lr`` and ``weight_sum``, which weight the steps."""

    _SCALARS: ClassVar[tuple[str, ...]] = ("max_lr", "weight_sum")

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._kept = dict.fromkeys(self._SCALARS, 0.0)
        #: The scalars after the current step.
        self._next = self._kept

    @property
    def scalars(self) -> dict[str, float]:
        """``max_lr``, the largest learning rate so far, and ``weight_sum``, the sum of all steps' weights."""
        return dict(self._kept)

    def set_scalars(self, values: Mapping[str, float]) -> None:
        """Restores the numbers of :attr:`scalars`."""
        self._kept = {name: float(values[name]) for name in self._SCALARS}

    def _prepare_local(self, var_device: Any, var_dtype: Any, apply_state: ApplyState) -> None:
        super()._prepare_local(var_device, var_dtype, apply_state)
        rule = self._leaf_rule
        assert isinstance(rule, ScheduleFreeRule)
        # optax counts these steps from 1, those of the base optimizer from 0.
        rate = value_at(rule.averaged_rate, self._steps_made() + 1, "learning_rate of schedule_free")
        largest = max(self._kept["max_lr"], rate)
        weight = float(largest**rule.weight_lr_power)
        total = self._kept["weight_sum"] + weight
        self._next = {"max_lr": largest, "weight_sum": total}
        values = apply_state[var_device, var_dtype]
        values.update(rule.averaged(values, weight / total if total else 0.0))

    def _finish_step(self, apply_state: ApplyState) -> None:
        super()._finish_step(apply_state)
        self._kept = self._next

    def make_slots(self, variables: list[Variable]) -> None:
        """See TreeUpdates. z starts at the value of the leaf."""
        with self._slots.prefixed():
            for variable in variables:
                self._slots.add(variable, Z, partial(_copied, variable), variable.shape)
        super().make_slots(variables)

    def means(self, variables: Sequence[Variable]) -> list[Array]:
        """x, the average of z, for each variable."""
        rule = self._leaf_rule
        assert isinstance(rule, ScheduleFreeRule)
        found = []
        for variable in variables:
            y, z = as_array(variable), as_array(self.slots(variable)[Z])
            if is_narrow(y.dtype):
                y, z = y.astype(np.float32), z.astype(np.float32)
            b1 = y.real.dtype.type(rule.b1)
            found.append(np.asarray(mean_of_z(y, z, b1), variable.dtype))
        return found


def _copied(variable: Variable, shape: Shape, dtype: Any) -> Array:  # noqa: ARG001
    return np.array(variable.numpy())
