"""SlotStore: the variables of an optimizer, including the slots of each variable that it trains."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple
from weakref import ref

import numpy as np

from distopt.core.variable import Variable, VariableAggregation, VariableSynchronization
from distopt.optimizers.weights import initial_value
from distopt.typing import DTypeLike, Shape

__all__ = ["SlotStore"]


class _Copied(NamedTuple):
    """The slots of one variable in a copied store.

    Attributes:
        slots: by name.
        kind: the variable's name, shape and dtype.
        owners: the variables they may belong to, in order of preference: the copy that was made together with
            the store, then the original. The references are weak, so that a variable that the program does
            not use disappears.
    """

    slots: dict[str, Variable]
    kind: tuple[Any, ...]
    owners: tuple[ref[Variable], ...]


class SlotStore:
    """The variables of one optimizer, and which of them are slots of which variable.

    A copied or unpickled store matches its slots to variables again: to copies of the variables if they were
    copied with it, otherwise to the same variables, otherwise to variables of the same names, shapes and
    dtypes.

    Args:
        optimizer: its name, for messages and for the names of variables.

    Attributes:
        optimizer: its name, with which the names of the variables begin.
        weights: the variables to save, slots and others, in order of creation.
        names: the names of the slots, in order of creation.
    """

    def __init__(self, optimizer: str) -> None:
        self.weights: list[Variable] = []
        self.names: list[str] = []
        self.optimizer = optimizer
        self._prefix = ""
        #: The slots of each variable by name. Not by the variable's name, which need not be unique.
        self._by_variable: dict[Variable, dict[str, Variable]] = {}
        #: The slots of a copied store, until its first use, when all copies of variables exist.
        self._copied: list[_Copied] = []
        #: Slots of a copied store whose variables no longer exist, to be matched by name, shape and dtype.
        self._unclaimed: list[_Copied] = []

    # -- making
    def prefixed(self) -> AbstractContextManager[None]:
        """A ``with`` block in which new variables are named ``<optimizer>/...``."""
        return _Prefixed(self)

    def make(
        self,
        name: str,
        shape: Shape,
        dtype: DTypeLike,
        initializer: Any,
        trainable: bool | None,
        synchronization: VariableSynchronization,
        aggregation: VariableAggregation,
    ) -> Variable:
        """Creates a variable, which is not added to :attr:`weights`; see ``Optimizer.add_weight``."""
        kind = np.dtype(np.float32 if dtype is None else dtype)
        value = initial_value(initializer, tuple(shape), kind)
        weight = Variable(
            value,
            trainable=trainable,
            name=self._prefix + name,
            dtype=kind,
            synchronization=synchronization,
            aggregation=aggregation,
        )
        # Replicas that share an optimizer all assign the same value, so there is nothing to aggregate.
        if aggregation is VariableAggregation.NONE:
            weight.storage.collective = False
        return weight

    def add(self, variable: Variable, name: str, initializer: Any, shape: Shape | None = None) -> Variable:
        """Returns the slot ``name`` of a variable, created if necessary; see ``Optimizer.add_slot``.

        If ``shape`` is None it has the shape of the variable.
        """
        if name not in self.names:
            self.names.append(name)
        slots = self._found(variable)
        if slots is None:
            slots = self._known[variable] = {}
        if name not in slots:
            slot = Variable(
                initial_value(initializer, variable.shape if shape is None else tuple(shape), variable.dtype),
                trainable=False,
                name=f"{self._prefix}{variable.name.removesuffix(':0')}/{name}",
                dtype=variable.dtype,
            )
            slot.storage.collective = False  # only the step writes it
            slots[name] = slot
            self.weights.append(slot)
        return slots[name]

    def remove_since(self, count: int) -> None:
        """Removes the slots created since there were ``count`` weights."""
        own = [slot for slots in self._known.values() for slot in slots.values()]
        new = set(map(id, self.weights[count:])) & set(map(id, own))
        self.weights[:] = [weight for weight in self.weights if id(weight) not in new]
        for slots in self._known.values():
            for name in [name for name, slot in slots.items() if id(slot) in new]:
                del slots[name]

    # -- finding
    def get(self, variable: Variable, name: str) -> Variable:
        """The slot ``name`` of a variable.

        Raises:
            KeyError: the variable has no slots, or none of that name.
        """
        slots = self.of(variable)
        try:
            return slots[name]
        except KeyError:
            known = ", ".join(slots) or "none"
            raise KeyError(
                f"optimizer {self.optimizer!r} has no slot {name!r} of variable {variable.name!r} (its "
                f"slots: {known})"
            ) from None

    def of(self, variable: Variable) -> dict[str, Variable]:
        """The slots of a variable by name; empty if it has none."""
        return self._found(variable) or {}

    def by_name(
        self, variables: Sequence[Variable], names: Sequence[tuple[str, ...]]
    ) -> tuple[tuple[Variable, ...], ...]:
        """For each variable, its slots of these names, all of which exist."""
        slots = map(self.of, variables)
        return tuple([tuple([own[n] for n in wanted]) for own, wanted in zip(slots, names, strict=True)])

    def lacking(self, variables: Iterable[Variable], names: Iterable[str]) -> list[Variable]:
        """The variables that lack one of these slots."""
        none: dict[str, Variable] = {}
        return [v for v in variables if not all(map(self._known.get(v, none).__contains__, names))]

    def owners(self) -> Iterator[tuple[Variable, str, Variable]]:
        """For each slot, the variable it belongs to, its name, and the slot."""
        for variable, slots in self._known.items():
            for name, slot in slots.items():
                yield variable, name, slot

    def _found(self, variable: Variable) -> dict[str, Variable] | None:
        slots = self._known.get(variable)
        if slots is None and self._unclaimed:
            kind = _kind(variable)
            place = next((i for i, entry in enumerate(self._unclaimed) if entry.kind == kind), None)
            if place is not None:
                slots = self._by_variable[variable] = self._unclaimed.pop(place).slots
        return slots

    # -- copies
    @property
    def _known(self) -> dict[Variable, dict[str, Variable]]:
        """The slots by variable and name; slots whose variables are unknown are in ``_unclaimed``."""
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

    def __getstate__(self) -> dict[str, Any]:
        known = [(variable, _kind(variable), slots) for variable, slots in self._known.items()]
        unclaimed = [(None, entry.kind, entry.slots) for entry in self._unclaimed]
        state = dict(vars(self), _copied=[*known, *unclaimed])
        del state["_by_variable"], state["_unclaimed"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        copied = [_Copied(slots, kind, _references(v)) for v, kind, slots in state["_copied"]]
        vars(self).update(state, _by_variable={}, _copied=copied, _unclaimed=[])

    def __deepcopy__(self, memo: dict[int, Any]) -> SlotStore:
        twin = memo[id(self)] = SlotStore(self.optimizer)
        state = self.__getstate__()
        twin.__setstate__(copy.deepcopy(state, memo))
        twin._copied = [
            entry._replace(owners=(*entry.owners, *_references(variable)))
            for entry, (variable, _, _) in zip(twin._copied, state["_copied"], strict=True)
        ]
        return twin


class _Prefixed(AbstractContextManager[None]):
    """The context manager of :meth:`SlotStore.prefixed`. A generator would take three times as long."""

    def __init__(self, store: SlotStore) -> None:
        self._store = store

    def __enter__(self) -> None:
        self._store._prefix = self._store.optimizer + "/"

    def __exit__(self, *_: object) -> None:
        self._store._prefix = ""


def _kind(variable: Variable) -> tuple[Any, ...]:
    return variable.name, variable.shape, variable.dtype.str


def _references(variable: Variable | None) -> tuple[ref[Variable], ...]:
    return () if variable is None else (ref(variable),)
