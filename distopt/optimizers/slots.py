"""Slots: the variables that an optimizer keeps beside each variable that it trains."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, NamedTuple
from weakref import ref

from distopt.core.variable import Variable
from distopt.engine.plan import PlanCache
from distopt.optimizers.weights import Weights, initial_value

__all__ = ["Slots"]

#: What a copy gets of its own.
_OWN = ("_by_variable", "_copied", "_unclaimed", "_plans")


class _Copied(NamedTuple):
    """The slots of one variable in a copy of an optimizer.

    Attributes:
        slots: by name.
        kind: the variable's name, shape and dtype.
        owners: the variables that may be meant, the first one that is still there: the copy that was made
            together with the optimizer's, and the original. The references are weak: what nobody else has
            is not what is trained.
    """

    slots: dict[str, Variable]
    kind: tuple[Any, ...]
    owners: tuple[ref[Variable], ...]


class Slots(Weights):
    """The part of an optimizer that makes and finds its slots.

    A copy, or an optimizer that was pickled, finds its variables again: their copies if those were made
    together with it, else the same variables, else variables of the same names, shapes and dtypes.
    """

    def __init__(self) -> None:
        super().__init__()
        # By the variable itself: two variables of one name have slots of their own.
        self._by_variable: dict[Variable, dict[str, Variable]] = {}
        self._copied: list[_Copied] = []  # until the first use: then all that is copied together is there
        self._unclaimed: list[_Copied] = []
        self._slot_names: list[str] = []
        self._plans = PlanCache()

    def add_slot(self, var: Variable, slot_name: str, initializer: Any = "zeros") -> Variable:
        """The slot ``slot_name`` of ``var``, made and put into ``weights`` if it is not there yet.

        Args:
            var: the variable that it stands beside.
            slot_name: its name, one for all variables.
            initializer: the name of an initializer, a callable ``(shape, dtype)``, or a value. What a
                name or callable makes has the variable's shape; the dtype always is the variable's.

        Returns:
            A variable that is not trained, named ``<variable>/<slot_name>``.

        Raises:
            ValueError: the name of no initializer.
        """
        if slot_name not in self._slot_names:
            self._slot_names.append(slot_name)
        slots = self._slots_of(var)
        if slots is None:
            slots = self._slots[var] = {}
        if slot_name not in slots:
            slot = Variable(
                initial_value(initializer, var.shape, var.dtype),
                trainable=False,
                name=f"{self._name_prefix}{var.name.removesuffix(':0')}/{slot_name}",
                dtype=var.dtype,
            )
            slot.storage.collective = False  # only the step writes it
            slots[slot_name] = slot
            self._weights.append(slot)
        return slots[slot_name]

    def _forget_slots(self, made: int) -> None:
        """Takes back the slots among the weights but the first ``made``."""
        own = [slot for slots in self._slots.values() for slot in slots.values()]
        new = set(map(id, self._weights[made:])) & set(map(id, own))
        self._weights[:] = [weight for weight in self._weights if id(weight) not in new]
        for slots in self._slots.values():
            for name in [name for name, slot in slots.items() if id(slot) in new]:
                del slots[name]
        self._plans.clear()

    def get_slot(self, var: Variable, slot_name: str) -> Variable:
        """The slot ``slot_name`` of ``var``.

        Raises:
            KeyError: the variable has no slots, or none of that name.
        """
        own = self._slots_of(var) or {}
        try:
            return own[slot_name]
        except KeyError:
            known = ", ".join(own) or "none"
            raise KeyError(
                f"optimizer {self._name!r} has no slot {slot_name!r} of variable {var.name!r} (its slots: "
                f"{known})"
            ) from None

    def _slots_by_name(
        self, variables: Sequence[Variable], names: Sequence[tuple[str, ...]]
    ) -> tuple[tuple[Variable, ...], ...]:
        """The slots of these names of each variable; all of them are made."""
        slots = [self._slots_of(v) or {} for v in variables]
        return tuple([tuple([own[n] for n in wanted]) for own, wanted in zip(slots, names, strict=True)])

    # -- copies
    @property
    def _slots(self) -> dict[Variable, dict[str, Variable]]:
        """The slots by variable and name."""
        if not self._copied:
            return self._by_variable
        copied, self._copied = self._copied, []
        for entry in copied:
            alive = [variable for owner in entry.owners if (variable := owner()) is not None]
            if alive:
                self._by_variable[alive[0]] = entry.slots
            else:
                self._unclaimed.append(entry)
        return self._by_variable

    def _slots_of(self, variable: Variable) -> dict[str, Variable] | None:
        """The slots of a variable, or None if it has none yet."""
        slots = self._slots.get(variable)
        if slots is None and self._unclaimed:
            kind = _kind(variable)
            place = next((i for i, entry in enumerate(self._unclaimed) if entry.kind == kind), None)
            if place is not None:
                slots = self._by_variable[variable] = self._unclaimed.pop(place).slots
        return slots

    def __getstate__(self) -> dict[str, Any]:
        known = [(variable, _kind(variable), slots) for variable, slots in self._slots.items()]
        unclaimed = [(None, entry.kind, entry.slots) for entry in self._unclaimed]
        rest = {name: value for name, value in vars(self).items() if name not in _OWN}
        return {**rest, "_slots": [*known, *unclaimed]}

    def __setstate__(self, state: dict[str, Any]) -> None:
        rest = {name: value for name, value in state.items() if name != "_slots"}
        copied = [_Copied(slots, kind, _references(v)) for v, kind, slots in state["_slots"]]
        vars(self).update(rest, _by_variable={}, _copied=copied, _unclaimed=[], _plans=PlanCache())

    def __deepcopy__(self, memo: dict[int, Any]) -> Slots:
        """A copy with weights of its own."""
        twin = memo[id(self)] = type(self).__new__(type(self))
        state = self.__getstate__()
        twin.__setstate__(copy.deepcopy(state, memo))
        twin._copied = [
            entry._replace(owners=(*entry.owners, *_references(variable)))
            for entry, (variable, _, _) in zip(twin._copied, state["_slots"], strict=True)
        ]
        return twin

    def get_slot_names(self) -> list[str]:
        """The names of the slots, in the order of their first making; [] before the first step."""
        return self._slot_names


def _kind(variable: Variable) -> tuple[Any, ...]:
    return variable.name, variable.shape, variable.dtype.str


def _references(variable: Variable | None) -> tuple[ref[Variable], ...]:
    return () if variable is None else (ref(variable),)
