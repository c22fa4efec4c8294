"""What a layer holds: variables, layers and metrics in its attributes, also in lists and dicts there."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from distopt.core import Variable
from distopt.keras.metrics.metric import Metric

__all__ = ["BOOKKEEPING", "Held", "changed", "hold", "holds", "state"]

#: Attributes of every layer that hold variables or lists for other reasons.
BOOKKEEPING = frozenset({"_own_weights", "_penalties", "_example_shape", "_held", "_trained"})

#: What a type is to a layer that has a value of it in an attribute.
_kinds: dict[type, str] = {}

#: Stands for what all layers hold now: another object after every change, so that a copy or a pickle of
#: what was found under it never passes for the present.
_state = object()


def state() -> object:
    """The same object as before if no layer has changed what it holds or trains."""
    return _state


def changed() -> None:
    """To be called when a layer has changed what it holds or trains."""
    global _state
    _state = object()


class Held(NamedTuple):
    """What was found.

    Attributes:
        variables: in the order in which they were set, each once.
        layers: likewise.
        metrics: likewise.
        places: the values in which they were found.
        lasting: whether it stays so until an attribute is set: lists and dicts may change by themselves.
    """

    variables: tuple[Variable, ...]
    layers: tuple[Any, ...]
    metrics: tuple[Metric, ...]
    places: tuple[Any, ...]
    lasting: bool


def holds(value: Any) -> bool:
    """Whether a value is, or may hold, a variable, layer or metric."""
    return (_kinds.get(type(value)) or _kind_of(type(value))) != "other"


def hold(first: Iterable[Variable], places: Iterable[Any]) -> Held:
    """The variables ``first``, and what stands in ``places``."""
    places = tuple(places)
    found: dict[str, dict[Any, None]] = {"variable": dict.fromkeys(first), "layer": {}, "metric": {}}
    lasting = True
    for value in places:
        lasting = _collect(value, found) and lasting
    variables, layers, metrics = (tuple(values) for values in found.values())
    return Held(variables, layers, metrics, places, lasting)


def _kind_of(cls: type) -> str:
    bases = {list: "list", tuple: "tuple", dict: "dict", Variable: "variable", Metric: "metric"}
    known = (kind for base, kind in bases.items() if issubclass(cls, base))
    return _kinds.setdefault(cls, next(known, "layer" if hasattr(cls, "_held") else "other"))


def _collect(value: Any, found: dict[str, dict[Any, None]]) -> bool:
    """Notes a value, or those in nested containers, in order, by its kind; whether they can change."""
    kind = _kinds.get(type(value)) or _kind_of(type(value))
    if kind in found:
        found[kind][value] = None
    elif kind != "other":
        items = value.values() if kind == "dict" else value
        lasting = [_collect(item, found) for item in items]
        return kind == "tuple" and all(lasting)
    return True
