"""Slots: the variables that an optimizer keeps beside each variable that it trains."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from distopt.core.variable import Variable
from distopt.engine.plan import PlanCache
from distopt.optimizers.weights import Weights, initial_value

__all__ = ["Slots"]

#: What a copy gets of its own.
_OWN = ("_slots", "_plans")
_NONE: dict[str, Variable] = {}


class Slots(Weights):
    """The part of an optimizer that makes and finds its slots."""

    def __init__(self) -> None:
        super().__init__()
        # By the variable itself: two variables of one name have slots of their own.
        self._slots: dict[Variable, dict[str, Variable]] = {}
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
        slots = self._slots.setdefault(var, {})
        if slot_name not in slots:
            slot = Variable(
                initial_value(initializer, var.shape, var.dtype),
                trainable=False,
                name=f"{self._name_prefix}{var.name.removesuffix(':0')}/{slot_name}",
                dtype=var.dtype,
            )
            slot._common = False  # only the step writes it
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
        try:
            return self._slots[var][slot_name]
        except KeyError:
            known = ", ".join(self._slots.get(var, {})) or "none"
            raise KeyError(
                f"optimizer {self._name!r} has no slot {slot_name!r} of variable {var.name!r} (its slots: "
                f"{known})"
            ) from None

    def _slots_of(
        self, variables: Sequence[Variable], names: Sequence[tuple[str, ...]]
    ) -> tuple[tuple[Variable, ...], ...]:
        """The slots of these names of each variable; all of them are made."""
        slots = [self._slots.get(v, _NONE) for v in variables]
        return tuple([tuple([own[n] for n in wanted]) for own, wanted in zip(slots, names, strict=True)])

    def __deepcopy__(self, memo: dict[int, Any]) -> Slots:
        """A copy with weights of its own for the same variables, or for their copies if made before."""
        twin = type(self).__new__(type(self))
        memo[id(self)] = twin
        state = {name: value for name, value in vars(self).items() if name not in _OWN}
        vars(twin).update(copy.deepcopy(state, memo))
        slots = {memo.get(id(var), var): copy.deepcopy(own, memo) for var, own in self._slots.items()}
        vars(twin).update(_slots=slots, _plans=PlanCache())
        return twin

    def get_slot_names(self) -> list[str]:
        """The names of the slots, in the order of their first making; [] before the first step."""
        return self._slot_names
