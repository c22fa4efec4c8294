"""Assignments that all replicas make alike."""

from __future__ import annotations

from typing import Any

from distopt.core.placement import placement
from distopt.core.variable import Variable, VariableSynchronization

__all__ = ["assign_alike"]


def assign_alike(variable: Variable, value: Any) -> None:
    """Assigns a value that all replicas assign, also where those of one process share the variable."""
    own = variable.synchronization is VariableSynchronization.ON_READ
    with placement().made_for(None if own else variable.storage.owner):
        variable.assign(value)
