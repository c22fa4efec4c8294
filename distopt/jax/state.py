"""The state of an optimizer as a flat dict of arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from distopt.core.variable import Variable
from distopt.engine.shared_parameters import SharedParameters
from distopt.jax.tree import ParameterTree
from distopt.jax.updates import TreeUpdates
from distopt.suggestions import did_you_mean

__all__ = ["load_state", "state_of"]


def state_of(tree: ParameterTree, updates: TreeUpdates) -> dict[str, Any]:
    """Copies of the step count, the trained leaves, their slots and the shared scalars, by name."""
    found = {name: np.asarray(variable.numpy()) for name, variable in _variables(tree, updates).items()}
    return found | {name: np.asarray(value) for name, value in updates.scalars.items()}


def load_state(
    tree: ParameterTree, updates: TreeUpdates, memory: SharedParameters, state: Mapping[str, Any]
) -> None:
    """Assigns the values of a state to the parameters, slots and scalars.

    Args:
        tree: the parameters.
        updates: holds the slots and scalars.
        memory: the shared memory of parameters and slots.
        state: a result of :func:`state_of`.

    Raises:
        KeyError: an entry is missing. Nothing was changed.
        ValueError: an entry is unknown or has another shape. Nothing was changed.
    """
    variables, scalars = _variables(tree, updates), updates.scalars
    known = [*variables, *scalars]
    for name in known:
        if name not in state:
            raise KeyError(f"the state has no {name!r}: it is that of other parameters or another optimizer")
    for name in state:
        if name not in known:
            raise ValueError(f"the state has {name!r}, which does not exist here.{did_you_mean(name, known)}")
    values = {name: _fitting(name, variable, state[name]) for name, variable in variables.items()}
    numbers = {name: float(np.asarray(state[name])) for name in scalars}
    for name, variable in variables.items():
        memory.assign(variable, values[name])
    updates.set_scalars(numbers)


def _variables(tree: ParameterTree, updates: TreeUpdates) -> dict[str, Variable]:
    found = {"count": updates.iterations}
    for leaf in tree.trained:
        assert leaf.variable is not None
        found[leaf.name] = leaf.variable
        found |= {f"{leaf.name}/{name}": slot for name, slot in updates.slots(leaf.variable).items()}
    return found


def _fitting(name: str, variable: Variable, value: Any) -> Any:
    """``value`` as a contiguous array of the variable's shape and dtype; ValueError for another shape."""
    array = np.asarray(value)
    if array.shape != variable.shape:
        raise ValueError(f"the state's {name!r} has shape {array.shape}, here it has {variable.shape}")
    return np.asarray(array.astype(variable.dtype), order="C")
