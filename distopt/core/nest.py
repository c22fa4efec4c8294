"""Nested structures: lists, tuples, named tuples and dicts of values."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

__all__ = ["flatten", "map_structure", "pack"]


def flatten(structure: Any) -> list[Any]:
    """The leaves from left to right; those of dicts by sorted key.

    Raises:
        ValueError: the structure contains itself, or is nested too deeply.
    """
    leaves: list[Any] = []
    try:
        _collect(structure, leaves)
    except RecursionError:
        raise ValueError("a structure is nested too deeply, or contains itself") from None
    return leaves


def _collect(structure: Any, leaves: list[Any]) -> None:
    if isinstance(structure, dict):
        for key in sorted(structure):
            _collect(structure[key], leaves)
    elif isinstance(structure, (list, tuple)):
        for item in structure:
            _collect(item, leaves)
    else:
        leaves.append(structure)


def pack(structure: Any, leaves: list[Any]) -> Any:
    """A structure like ``structure`` with ``leaves`` in the order of :func:`flatten`."""
    rest = iter(leaves)
    result = _build(structure, lambda _: next(rest))
    if next(rest, rest) is not rest:
        raise ValueError(f"pack() got {len(leaves)} leaves, more than the structure has")
    return result


def map_structure(func: Callable[[Any], Any], structure: Any) -> Any:
    """``structure`` with ``func`` applied to every leaf."""
    return _build(structure, func)


def _build(structure: Any, leaf: Callable[[Any], Any]) -> Any:
    if type(structure) is list:  # first, because it is the most frequent
        return [_build(item, leaf) for item in structure]
    if isinstance(structure, dict):
        built = copy.copy(structure)  # keeps what a subclass has besides items, such as a default factory
        built.update({key: _build(structure[key], leaf) for key in sorted(structure)})
        return built
    if isinstance(structure, tuple) and hasattr(structure, "_fields"):
        return type(structure)(*(_build(item, leaf) for item in structure))
    if isinstance(structure, (list, tuple)):
        return type(structure)(_build(item, leaf) for item in structure)
    return leaf(structure)
