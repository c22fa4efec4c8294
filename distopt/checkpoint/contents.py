"""From the objects that a user names to groups of variables and to states."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from distopt.checkpoint.holders import GlobalStreams, Stateful, holder_of
from distopt.core.variable import Variable
from distopt.optimizers import Optimizer
from distopt.optimizers.state import make_weights, named_variables

__all__ = ["Contents", "Entry", "collect", "optimizer_entries"]

#: The group of the global random generators, which is always there.
STREAMS = "random"


@dataclass(frozen=True)
class Entry:
    """A variable in its group.

    Attributes:
        name: what it is called there.
        variable: itself.
        owner: for a slot, the variable that it stands beside.
        slot: for a slot, its name.
    """

    name: str
    variable: Variable
    owner: Variable | None = None
    slot: str = ""


@dataclass
class Contents:
    """All that a checkpoint holds.

    Attributes:
        groups: variables by the name of their object; those of optimizers last.
        optimizers: the optimizers by group.
        states: what has state beside variables, by name.
    """

    groups: dict[str, list[Entry]] = field(default_factory=dict)
    optimizers: dict[str, Optimizer] = field(default_factory=dict)
    states: dict[str, Stateful] = field(default_factory=dict)


def collect(objects: Mapping[str, Any]) -> Contents:
    """The current contents of ``objects``. A repeated variable is saved once.

    Raises:
        TypeError: an object that has neither variables nor state, or that could not be put back in place.
        ValueError: an optimizer that has trained a variable which is not among the objects.
    """
    contents = Contents(states={STREAMS: GlobalStreams()})
    seen: set[int] = set()
    for name, value in objects.items():
        _collect(contents, seen, name, value)
    for group, optimizer in contents.optimizers.items():
        # Numbers become variables, so that there is something to save before the first step.
        make_weights(optimizer, [])
        fresh = [e for e in optimizer_entries(optimizer) if id(e.variable) not in seen]
        for entry in fresh:
            if entry.owner is not None and id(entry.owner) not in seen:
                raise ValueError(
                    f"{group} has state for variable {entry.owner.name!r}, which is not among the objects "
                    "of the CheckpointManager: add it, for example with variables=[...] or model=..."
                )
        seen.update(id(e.variable) for e in fresh)
        contents.groups[group] = fresh
    return contents


def _collect(contents: Contents, seen: set[int], name: str, value: Any) -> None:
    if id(value) in seen:
        return
    found = False
    if isinstance(value, Optimizer):
        seen.add(id(value))
        contents.optimizers[name] = value
        return
    if isinstance(value, Variable):
        _add(contents, seen, name, [value])
        return
    holder = holder_of(value)
    if holder is not None:
        contents.states[name] = holder
        found = True
    if isinstance(value, (dict, list, tuple)):
        _collect_members(contents, seen, name, value, found)
        return
    weights = getattr(value, "weights", None)
    if isinstance(weights, (list, tuple)) and all(isinstance(w, Variable) for w in weights):
        _add(contents, seen, name, weights)
        _collect_model(contents, seen, name, value)
        found = True
    if not found:
        raise TypeError(
            f"CheckpointManager({name}=...) cannot save a {type(value).__name__}: give variables, an "
            "optimizer, something with weights, a random generator, an object with get_state() and "
            "set_state() or state_dict() and load_state_dict(), or a dict or list of plain values, which "
            "restore() can change in place"
        )


def _collect_members(contents: Contents, seen: set[int], name: str, value: Any, found: bool) -> None:
    if isinstance(value, dict):
        plain = set() if not found else set(contents.states[name].get_state())
        for key, item in value.items():
            if key not in plain:
                _collect(contents, seen, f"{name}/{key}", item)
    elif isinstance(value, tuple) or not found:
        _add(contents, seen, name, [item for item in value if isinstance(item, Variable)])
        for i, item in enumerate(value):
            if not isinstance(item, Variable):
                _collect(contents, seen, f"{name}/{i}", item)


def _collect_model(contents: Contents, seen: set[int], name: str, model: Any) -> None:
    """A compiled model's optimizer, and layers that have state beside their weights."""
    try:
        optimizer = getattr(model, "optimizer", None)
    except RuntimeError:
        optimizer = None  # not compiled
    if isinstance(optimizer, Optimizer):
        _collect(contents, seen, f"{name}/optimizer", optimizer)
    for i, layer in enumerate(_sublayers(model)):
        if isinstance(layer, Stateful):
            contents.states[f"{name}/layers/{i}"] = layer


def _sublayers(layer: Any) -> list[Any]:
    below = layer.sublayers() if hasattr(layer, "sublayers") else []
    return [found for one in below for found in (one, *_sublayers(one))]


def _add(contents: Contents, seen: set[int], group: str, variables: Any) -> None:
    entries = contents.groups.setdefault(group, [])
    for variable in variables:
        if id(variable) not in seen:
            seen.add(id(variable))
            entries.append(Entry(variable.name.removesuffix(":0"), variable))


def optimizer_entries(optimizer: Optimizer) -> list[Entry]:
    """The hyperparameters that are variables, then the optimizer's weights in their order."""
    return [Entry(*named) for named in named_variables(optimizer)]
