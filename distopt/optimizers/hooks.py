"""The hooks of an optimizer: finds overridden ones, and makes the update that calls them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

from distopt.core.indexed_slices import IndexedSlices
from distopt.core.variable import Variable
from distopt.engine.owners import constrain
from distopt.engine.rule import DECAY

if TYPE_CHECKING:
    from distopt.optimizers.optimizer import ApplyState, Optimizer

__all__ = ["overrides", "takes_state", "update_by_hooks"]


@cache
def overrides(cls: type, base: type, hooks: tuple[str, ...]) -> bool:
    """Whether ``cls`` overrides any of these hooks of ``base``."""
    return any(getattr(cls, hook) is not getattr(base, hook) for hook in hooks)


def takes_state(method: Callable[..., Any]) -> bool:
    """Whether a method takes the argument ``apply_state``, which older optimizers lack."""
    return _names_state(getattr(method, "__func__", method))


@cache
def _names_state(function: Callable[..., Any]) -> bool:
    return "apply_state" in inspect.getfullargspec(function).args


def update_by_hooks(optimizer: Optimizer, gradient: Any, variable: Variable, apply_state: ApplyState) -> None:
    """Updates a variable with the hooks ``_resource_apply_dense`` and ``_resource_apply_sparse``.

    Args:
        optimizer: the optimizer.
        gradient: the final gradient.
        variable: the variable to update.
        apply_state: the coefficients of the step. The hooks find those of the variable by its device and
            dtype, without weight decay, which is applied before.
    """
    kind = optimizer._factors.kind(variable)
    state = apply_state
    if kind in apply_state:
        numbers = dict(apply_state[kind])
        decay = numbers.pop(DECAY, None)
        if decay is not None:
            value = variable.numpy()
            variable.assign(value - value * value.dtype.type(decay))
        state = {(variable.device, variable.dtype): numbers}
    if isinstance(gradient, IndexedSlices):
        extra = {"apply_state": state} if takes_state(optimizer._resource_apply_sparse) else {}
        optimizer._resource_apply_sparse_duplicate_indices(
            gradient.values, variable, gradient.indices, **extra
        )
        return
    extra = {"apply_state": state} if takes_state(optimizer._resource_apply_dense) else {}
    optimizer._resource_apply_dense(gradient, variable, **extra)
    constrain(variable)
