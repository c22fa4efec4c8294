"""Assignment of a value that is the same on all replicas."""

from __future__ import annotations

from typing import Any

from distopt.core.placement import placement
from distopt.core.variable import Variable, VariableSynchronization

__all__ = ["assign_alike"]


def assign_alike(variable: Variable, value: Any) -> None:
    """Assigns a value that is the same on all replicas, each of which makes this call. Not collective.

    If replicas of this process share the variable, it is written without its aggregation.
    """
    own = variable.synchronization is VariableSynchronization.ON_READ
    with placement().made_for(None if own else variable.storage.owner):
        variable.assign(value)
