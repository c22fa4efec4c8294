"""``optimizer.state``: slots and scalars under PyTorch's names."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from typing import Any

import numpy as np
import torch

from distopt.engine.shared_parameters import SharedParameters
from distopt.torch.parameter import Parameter
from distopt.torch.parameters import Parameters
from distopt.torch.rules.update_rule import ParameterUpdate
from distopt.torch.updates import GroupUpdates

__all__ = ["StateKeeper", "StateView"]


class StateView(MutableMapping[Any, Any]):
    """The mapping ``optimizer.state``: a dict of state for each parameter, created when it is first read.

    Entries are copies of slots and scalars. The next step writes those that the program has changed back.

    Args:
        make: returns a copy of the current state of one parameter, {} before its first step.
        tensors: returns all parameters.
    """

    def __init__(
        self, make: Callable[[torch.Tensor], dict[str, Any]], tensors: Callable[[], Iterable[torch.Tensor]]
    ) -> None:
        self._make, self._tensors = make, tensors
        self._entries: dict[Any, Any] = {}
        #: The ids of parameters whose state was copied to the entries, even if the program deleted it since.
        self._seen: set[int] = set()

    def changed(self, tensor: torch.Tensor) -> dict[str, Any] | None:
        """The state of a parameter here if the program has changed it; None if it has not."""
        if id(tensor) in self._seen or tensor in self._entries:
            entry: dict[str, Any] = self._entries.get(tensor, {})
            return None if _equal(entry, self._make(tensor)) else entry
        return None

    def _first(self, key: Any) -> dict[str, Any]:
        """A copy of the state of ``key`` at its first use; {} later, and for other keys than parameters."""
        if not isinstance(key, torch.Tensor) or id(key) in self._seen:
            return {}
        self._seen.add(id(key))
        return self._make(key)

    def _complete(self) -> dict[Any, Any]:
        """All entries, including those of parameters that the program has not read yet."""
        for tensor in self._tensors():
            if tensor not in self._entries and (entry := self._first(tensor)):
                self._entries[tensor] = entry
        return self._entries

    def __getitem__(self, key: Any) -> Any:
        if key not in self._entries:
            self._entries[key] = self._first(key)  # as in a defaultdict(dict)
        return self._entries[key]

    def __setitem__(self, key: Any, value: Any) -> None:
        self._entries[key] = value

    def __delitem__(self, key: Any) -> None:
        del self._complete()[key]

    def __contains__(self, key: object) -> bool:
        return key in self._complete()

    def __iter__(self) -> Iterator[Any]:
        return iter(self._complete())

    def __len__(self) -> int:
        return len(self._complete())

    def get(self, key: Any, default: Any = None) -> Any:
        """See dict."""
        return self._complete().get(key, default)

    def __repr__(self) -> str:
        return repr(self._complete())

    def __reduce__(self) -> Any:
        return defaultdict, (dict, dict(self._complete()))


class StateKeeper:
    """Converts between ``optimizer.state`` and the slots and scalars of the step.

    Args:
        parameters: the parameters that have been added.
        updates: holds the slots, and the scalars in its cohorts.
        update: the update algorithm.
        tensors: returns all parameters of the groups.
    """

    def __init__(
        self,
        parameters: Parameters,
        updates: GroupUpdates,
        update: ParameterUpdate,
        tensors: Callable[[], Iterable[torch.Tensor]],
    ) -> None:
        self._parameters, self._updates, self._update, self._tensors = parameters, updates, update, tensors
        #: The view that the program has had since the last step; None if it has not asked for one.
        self._view: StateView | None = None
        #: Whether the view holds a state that replaces all of the current one.
        self._loaded = False
        #: Entries of the program that are no slot or scalar: by parameter, a dict; by any other key, any
        #: value.
        self._others: dict[Any, Any] = {}

    def view(self) -> StateView:
        """The value of ``optimizer.state``: the same object until the next step."""
        if self._view is None:
            self._view = StateView(self._shown, self._tensors)
            self._view.update({k: v for k, v in self._others.items() if not isinstance(k, torch.Tensor)})
        return self._view

    def load(self, state: Mapping[Any, Any]) -> None:
        """Replaces the whole state with ``state``, from the next step on."""
        self._view = StateView(lambda _: {}, tuple)
        self._view.update(state)
        self._loaded = True

    def take_in(self, memory: SharedParameters) -> None:
        """Before a step: copies entries that the program changed or loaded to the slots and scalars.

        Args:
            memory: the shared memory of the slots.
        """
        view = self._view
        if view is None:
            return
        kept = {key: value for key, value in self._others.items() if isinstance(key, torch.Tensor)}
        self._others = kept | {key: x for key, x in view.items() if not isinstance(key, torch.Tensor)}
        changed: dict[int, tuple[Parameter, dict[str, Any]]] = {}
        for tensor in self._tensors():
            entry = view[tensor] if self._loaded else view.changed(tensor)
            if entry is not None:
                changed[id(tensor)] = self._parameters.of(tensor), entry
        self.restore(memory, list(changed.values()))

    def now(self, tensor: torch.Tensor) -> dict[str, Any]:
        """The state of one parameter, with the changes that no step has applied yet."""
        changed = None if self._view is None else self._view.changed(tensor)
        return self._shown(tensor) if changed is None and not self._loaded else changed or {}

    def stepped(self) -> None:
        """After a step: discards the view, which shows the state before it."""
        self._view, self._loaded = None, False

    def restore(
        self, memory: SharedParameters, entries: Iterable[tuple[Parameter, Mapping[str, Any]]]
    ) -> None:
        """Sets the state of parameters.

        Args:
            memory: the shared memory of the slots.
            entries: parameters with their state under PyTorch's names. {} is the state before the first step.

        Raises:
            KeyError: a scalar is missing. Nothing was changed.
            ValueError: a slot has a wrong shape. Nothing was changed.
        """
        checked = [(parameter, entry, self._scalars_in(parameter, entry)) for parameter, entry in entries]
        cohorts = self._updates.cohorts
        alike: dict[tuple[Any, ...], list[Parameter]] = {}
        for parameter, entry, scalars in checked:
            group = cohorts.of(parameter.variable).group
            alike.setdefault((group, *scalars.items()), []).append(parameter)
            self._restore_slots(memory, parameter, entry)
            known = {*self._update.scalars, *self._updates.slots(parameter.variable)}
            self._others.pop(parameter.tensor, None)
            if others := {key: value for key, value in entry.items() if key not in known}:
                self._others[parameter.tensor] = others
        for (group, *pairs), members in alike.items():
            cohorts.put([parameter.variable for parameter in members], group, dict(pairs))
        if alike:
            self._updates.forget_plans()

    def shown(self, parameter: Parameter) -> dict[str, Any]:
        """A copy of the state of a parameter, under PyTorch's names; {} before its first step."""
        variable = parameter.variable
        scalars, slots = self._updates.cohorts.of(variable).scalars, self._updates.slots(variable)
        state: dict[str, Any] = {}
        if scalars != self._update.scalars or (slots and self._update.has_state_at_once):
            for name, value in scalars.items():
                if name not in self._update.internal:
                    state[name] = (
                        value if isinstance(value, int) else torch.tensor(value, dtype=torch.float32)
                    )
            state |= {name: parameter.tensor_of(slot.numpy()) for name, slot in slots.items()}
        others: dict[str, Any] = self._others.get(parameter.tensor, {})
        return state | others

    def _shown(self, tensor: torch.Tensor) -> dict[str, Any]:
        return {} if self._parameters.lacking([tensor]) else self.shown(self._parameters.of(tensor))

    def _scalars_in(self, parameter: Parameter, entry: Mapping[str, Any]) -> dict[str, float]:
        """Checks the shapes in a state. Returns its scalars; see :meth:`restore` for the errors."""
        name, shape = parameter.variable.name, tuple(parameter.tensor.shape)
        shapes = dict.fromkeys(self._update.optional_slots, shape)
        for key, own in {**shapes, **self._updates.slot_shapes(parameter.variable)}.items():
            value = entry.get(key)
            if value is not None and tuple(value.shape) != own:
                raise ValueError(
                    f"the state {key!r} of parameter {name!r} has shape {tuple(value.shape)}, but the "
                    f"parameter has {shape}{'' if own == shape else f' and needs {own}'}: was it saved from "
                    f"another model?"
                )
        try:
            return self._update.restored(entry)
        except KeyError as error:
            raise KeyError(f"the state of parameter {name!r} has no {error.args[0]!r}") from None

    def _restore_slots(
        self, memory: SharedParameters, parameter: Parameter, entry: Mapping[str, Any]
    ) -> None:
        variable = parameter.variable
        also = [name for name in self._update.optional_slots if entry.get(name) is not None]
        self._updates.make_slots([variable], also)
        for name, slot in self._updates.slots(variable).items():
            value = entry.get(name)
            if value is None:
                array = np.full(slot.shape, self._updates.initial(variable, name), slot.dtype)
            else:
                array = parameter.array(value.detach().to(parameter.tensor.dtype))
            memory.assign(slot, array)


def _equal(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two states of a parameter have the same keys and values."""
    return one.keys() == other.keys() and all(_same(value, other[key]) for key, value in one.items())


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return one.dtype is other.dtype and torch.equal(one, other)
    return one is other or (isinstance(one, (int, float)) and type(one) is type(other) and one == other)
