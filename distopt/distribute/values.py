"""PerReplica: one value for each replica of this process, as cross-replica code sees it."""

from __future__ import annotations

from typing import Any

import numpy as np

from distopt.core.indexed_slices import IndexedSlices
from distopt.core.tensor import TensorLike

__all__ = ["PerReplica", "regroup", "select"]


class PerReplica:
    """The values of the replicas of this process, by local number.

    Attributes:
        values: one value for each replica of this process.
    """

    __slots__ = ("_values",)

    def __init__(self, values: tuple[Any, ...]) -> None:
        self._values = values

    @property
    def values(self) -> tuple[Any, ...]:
        """One value for each replica of this process."""
        return self._values

    def __repr__(self) -> str:
        rows = ",\n".join(f"  {i}: {value!r}" for i, value in enumerate(self._values))
        return f"PerReplica:{{\n{rows}\n}}"


def regroup(values: list[Any]) -> Any:
    """Replicas' results as one: structures of PerReplica; the same Python object comes back bare."""
    first = values[0]
    if len(values) == 1 or all(v is first for v in values[1:]):
        return first
    same_type = all(type(v) is type(first) for v in values)
    if same_type and isinstance(first, dict) and all(v.keys() == first.keys() for v in values):
        return {key: regroup([v[key] for v in values]) for key in first}
    if same_type and isinstance(first, (list, tuple)) and all(len(v) == len(first) for v in values):
        items = [regroup(list(parts)) for parts in zip(*values, strict=True)]
        return type(first)(*items) if hasattr(first, "_fields") else type(first)(items)
    arrays = (TensorLike, IndexedSlices, np.ndarray, np.generic)
    if same_type and not isinstance(first, arrays) and _equal(values):
        return first
    return PerReplica(tuple(values))


def _equal(values: list[Any]) -> bool:
    try:
        return all(bool(v == values[0]) for v in values[1:])
    except (TypeError, ValueError):
        return False


def select(structure: Any, index: int) -> Any:
    """``structure`` with every PerReplica in it replaced by the value of replica ``index``."""
    if isinstance(structure, PerReplica):
        return structure.values[index]
    if isinstance(structure, dict):
        return type(structure)((key, select(value, index)) for key, value in structure.items())
    if isinstance(structure, tuple) and hasattr(structure, "_fields"):
        return type(structure)(*(select(item, index) for item in structure))
    if isinstance(structure, (list, tuple)):
        return type(structure)(select(item, index) for item in structure)
    return structure
