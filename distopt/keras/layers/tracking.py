"""The variables, layers and metrics in a layer's attributes, also in lists, tuples and dicts there."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from distopt.core import Variable
from distopt.keras.metrics.metric import Metric

__all__ = ["UNTRACKED", "Tracked", "is_trackable", "mark_changed", "track", "version"]

#: Attributes of every layer that hold variables or lists for other reasons.
UNTRACKED = frozenset({"_own_weights", "_penalties", "_example_shape", "_tracked", "_trainable_found"})

#: What a type is to a layer that has a value of it in an attribute. Process-wide, as types are.
_kinds: dict[type, str] = {}

#: Stands for what all layers track now: another object after every change, so that a copy or a pickle of
#: what was found under it never passes for the present. Process-wide, since a layer does not know its models.
_version = object()


def version() -> object:
    """The same object as before if no layer has changed what it tracks or trains."""
    return _version


def mark_changed() -> None:
    """To be called when a layer has changed what it tracks or trains."""
    global _version
    _version = object()


class Tracked(NamedTuple):
    """What was found.

    Attributes:
        variables: in the order in which they were set, each once.
        layers: likewise.
        metrics: likewise.
        values: the attributes' values in which they were found.
        static: whether it stays so until an attribute is set: lists and dicts may change in place.
    """

    variables: tuple[Variable, ...]
    layers: tuple[Any, ...]
    metrics: tuple[Metric, ...]
    values: tuple[Any, ...]
    static: bool


def is_trackable(value: Any) -> bool:
    """Whether a value is, or may contain, a variable, layer or metric."""
    return (_kinds.get(type(value)) or _kind_of(type(value))) != "other"


def track(first: Iterable[Variable], values: Iterable[Any]) -> Tracked:
    """The variables ``first``, and what is found in ``values``."""
    values = tuple(values)
    found: dict[str, dict[Any, None]] = {"variable": dict.fromkeys(first), "layer": {}, "metric": {}}
    static = True
    for value in values:
        static = _collect(value, found) and static
    variables, layers, metrics = (tuple(things) for things in found.values())
    return Tracked(variables, layers, metrics, values, static)


def _kind_of(cls: type) -> str:
    bases = {list: "list", tuple: "tuple", dict: "dict", Variable: "variable", Metric: "metric"}
    known = (kind for base, kind in bases.items() if issubclass(cls, base))
    return _kinds.setdefault(cls, next(known, "layer" if hasattr(cls, "_tracked") else "other"))


def _collect(value: Any, found: dict[str, dict[Any, None]]) -> bool:
    """Adds a value, or those in nested containers, in order, by its kind; whether they are static."""
    kind = _kinds.get(type(value)) or _kind_of(type(value))
    if kind in found:
        found[kind][value] = None
    elif kind != "other":
        items = value.values() if kind == "dict" else value
        static = [_collect(item, found) for item in items]
        return kind == "tuple" and all(static)
    return True
