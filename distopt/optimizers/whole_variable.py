"""WholeVariableOptimizer: the base of optimizers whose update is not elementwise, such as Muon."""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from distopt.core.dtypes import is_narrow, kind_of
from distopt.core.indexed_slices import IndexedSlices
from distopt.core.tensor import as_array
from distopt.core.variable import Variable
from distopt.engine.sparse import densified
from distopt.optimizers.optimizer import ApplyState, Optimizer
from distopt.optimizers.variable_factors import Factors
from distopt.typing import Array, Shape

__all__ = ["ArrayUpdate", "WholeVariableOptimizer", "check_real", "update_arrays"]

#: ``(w, g, slots) -> None``: updates the array of a variable and those of its slots, by name, in place.
ArrayUpdate = Callable[[Array, Array, dict[str, Array]], None]


class WholeVariableOptimizer(Optimizer):
    """The base of optimizers whose rule needs whole variables.

    One replica of each node updates a variable and its slots. Variables are distributed over the replicas of
    a node by the cost of their updates.
    """

    @abc.abstractmethod
    def _slot_shapes(self, variable: Variable) -> Mapping[str, Shape]:
        """The slots that a variable needs, with their shapes."""

    @abc.abstractmethod
    def _coefficients(self, rate: float) -> dict[str, float]:
        """The coefficients of this step by name, which must be the same on all replicas.

        Args:
            rate: the learning rate of this step.
        """

    @abc.abstractmethod
    def _update_array(
        self, variable: Variable, w: Array, g: Array, slots: dict[str, Array], numbers: Mapping[str, float]
    ) -> None:
        """Updates a variable and its slots in place.

        Args:
            variable: the variable.
            w: its value. All arrays are float32 if the variable is float16 or bfloat16.
            g: the gradient; read-only.
            slots: its slots, by name.
            numbers: the result of :meth:`_coefficients`.
        """

    def _create_slots(self, var_list: list[Variable]) -> None:
        for variable in var_list:
            check_real(variable, self._name)
            for name, shape in self._slot_shapes(variable).items():
                self._slots.add(variable, name, "zeros", shape)

    def _prepare_local(self, var_device: Any, var_dtype: Any, apply_state: ApplyState) -> None:
        own = np.dtype(var_dtype)
        rate = float(as_array(self._decayed_lr(np.float32 if is_narrow(own) else own)))
        if isinstance(var_device, Factors):
            rate *= var_device.learning_rate
        apply_state[var_device, var_dtype].update(lr_t=rate, **self._coefficients(rate))

    def _resource_apply_dense(
        self, grad: Any, handle: Variable, apply_state: ApplyState | None = None
    ) -> None:
        kind = handle.device, handle.dtype
        numbers = (apply_state or {}).get(kind) or self._fallback_apply_state(*kind)
        slots = {name: self.get_slot(handle, name) for name in self._slot_shapes(handle)}
        update_arrays(
            lambda w, g, arrays: self._update_array(handle, w, g, arrays, numbers),
            handle,
            as_array(grad),
            slots,
        )

    def _resource_apply_sparse(
        self, grad: Any, handle: Variable, indices: Any, apply_state: ApplyState | None = None
    ) -> None:
        self._resource_apply_dense(densified(IndexedSlices(grad, indices), handle.shape), handle, apply_state)


def update_arrays(
    update: ArrayUpdate, variable: Variable, gradient: Array, slots: Mapping[str, Variable]
) -> None:
    """Runs ``update`` on the memory of a variable and its slots.

    float16 and bfloat16 arrays are converted to float32 for the update, and rounded once.
    """
    state = (variable, *slots.values())
    arrays = [as_array(v) for v in state]
    computed = [array.astype(np.float32) if is_narrow(array.dtype) else array for array in arrays]
    g = gradient.astype(np.float32) if is_narrow(gradient.dtype) else gradient
    with np.errstate(all="ignore"):
        update(computed[0], np.asarray(g, order="C"), dict(zip(slots, computed[1:], strict=True)))
        for array, result in zip(arrays, computed, strict=True):
            if result is not array:
                array[...] = result
    for v in state:
        v.storage.changed()


def check_real(variable: Variable, optimizer: str) -> None:
    """Raises TypeError for a variable of complex numbers."""
    if kind_of(variable.dtype) == "c":
        raise TypeError(
            f"optimizer {optimizer!r} updates real numbers; variable {variable.name!r} has dtype "
            f"{variable.dtype}"
        )
