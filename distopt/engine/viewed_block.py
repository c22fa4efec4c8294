"""ViewedBlock: a shared block of memory, and the private view through which a replica reads its variables."""

from __future__ import annotations

import weakref
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from distopt.comm import SharedBlock, private_view, same_bytes
from distopt.core.placement import placement
from distopt.core.tensor import as_array
from distopt.core.variable import Variable
from distopt.typing import Array

__all__ = ["ViewedBlock"]


@dataclass
class _Entry:
    """A variable of the block.

    Attributes:
        variable: the variable.
        begin: the offset of its first byte in the block.
        end: the offset after its last byte.
        shared: its elements in the block, in its shape.
        private: its elements in the private view, in its shape.
        taken: the variable's version when its value was last copied from or to the view; -1 before that. If
            the version differs, the program has assigned the variable itself since.
    """

    variable: weakref.ref[Variable]
    begin: int
    end: int
    shared: Array
    private: Array
    taken: int = -1


class ViewedBlock:
    """A block, this replica's private view of it, and its variables, to which it keeps weak references.

    An edit is a value of a variable in the view that differs from the block: the program has written it.
    Before a step, edits are assigned to their variables. After the step, the view's modified pages are
    discarded.

    Args:
        block: the block, created with ``views=True``.

    Attributes:
        bytes: the block as a 1-D array of uint8, which all replicas update.
    """

    def __init__(self, block: SharedBlock) -> None:
        self.bytes = block.bytes
        self._view = private_view(block)
        self._entries: dict[int, _Entry] = {}
        self._written: list[tuple[int, int]] = []  # byte ranges for the next discard
        self._seen = -1  # Placement.moves when all variables were last known to have the block's values

    def add(self, variable: Variable, begin: int) -> None:
        """Adds a variable, which is attached to the block at offset ``begin``, in bytes."""
        value, key = as_array(variable), id(variable)
        end = begin + value.nbytes
        shared, private = (
            memory[begin:end].view(value.dtype).reshape(value.shape)
            for memory in (self.bytes, self._view.bytes)
        )
        reference = weakref.ref(variable, _remover(self._entries, key))
        self._entries[key] = _Entry(reference, begin, end, shared, private)

    def remove(self, variable: Variable) -> None:
        """Removes a variable."""
        del self._entries[id(variable)]

    def private(self, variable: Variable) -> Array:
        """The variable's elements in the private view, in its shape."""
        return self._entries[id(variable)].private

    def edited(self) -> list[Variable]:
        """The variables with edits."""
        written = self._view.written()
        return [v for v, entry in self._alive() if self._differs(entry, written)] if written else []

    def take_edits(self) -> None:
        """Assigns edits to their variables, and writes values assigned to a variable itself to the view."""
        self._written = self._view.written()
        if not self._written and self._seen == placement().moves:
            return
        assigned = []
        for v, entry in self._alive():
            if not v.storage.shared and v.storage.version != entry.taken:
                assigned.append((v, entry))  # by the program, not by an edit
            elif self._differs(entry, self._written):
                if v.storage.shared or as_array(v).tobytes() != entry.private.tobytes():
                    v.storage.store(entry.private)
                    entry.taken = v.storage.version
            elif not v.storage.shared:  # the edit has been undone
                v.storage.attach(entry.shared)
                v.storage.changed()
        self._show(assigned)

    def discard_edits(self) -> None:
        """Makes the view show the block again, except for variables with assigned, private values."""
        self._view.discard(self._written)
        self._view.refresh()
        self._written = []
        if self._seen != placement().moves:
            assigned = [(v, entry) for v, entry in self._alive() if not v.storage.shared]
            self._show(assigned)
            self._seen = -1 if assigned else placement().moves

    def _show(self, assigned: Sequence[tuple[Variable, _Entry]]) -> None:
        """Writes the values of variables to the view, marked as taken."""
        for v, entry in assigned:
            np.copyto(entry.private, as_array(v))
            entry.taken = v.storage.version
        if assigned:
            self._written = self._view.written()

    def _alive(self) -> list[tuple[Variable, _Entry]]:
        # A copy, because a garbage collection may remove entries during the iteration.
        entries = list(self._entries.values())
        return [(v, entry) for entry in entries if (v := entry.variable()) is not None]

    def _differs(self, entry: _Entry, written: Sequence[tuple[int, int]]) -> bool:
        """Whether a variable differs between view and block; only the ranges ``written`` can differ."""
        first = bisect_right(written, entry.begin, key=lambda piece: piece[1])
        for low, high in islice(written, first, None):
            if low >= entry.end:
                break
            part = slice(max(low, entry.begin), min(high, entry.end))
            if not same_bytes(self._view.bytes[part], self.bytes[part]):
                return True
        return False


def _remover(entries: dict[int, _Entry], key: int) -> Callable[[object], None]:
    def remove(_: object) -> None:
        entries.pop(key, None)

    return remove
