"""ViewedBlock: a block of the node's memory whose variables a replica reads through a view of its own."""

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
        begin: its first byte in the block.
        end: one behind its last byte.
        shared: its part of the block, in its shape.
        private: its part of the view, in its shape.
        taken: the variable's version when an edit of it became its value, if that is its value still.
    """

    variable: weakref.ref[Variable]
    begin: int
    end: int
    shared: Array
    private: Array
    taken: int = -1


class ViewedBlock:
    """A block, this replica's view of it, and the variables there. It keeps none of them alive.

    An edit is what the program has written through the view and what differs from the block. It becomes the
    variable's value before a step, as if it had been assigned. The view's pages are given back after it.

    Args:
        block: the block, made for views.

    Attributes:
        bytes: the block as a 1-D array of uint8, for the updates of all replicas.
    """

    def __init__(self, block: SharedBlock) -> None:
        self.bytes = block.bytes
        self._view = private_view(block)
        self._entries: dict[int, _Entry] = {}
        self._written: list[tuple[int, int]] = []  # what the next discard gives back
        self._seen = -1  # value of Placement.moves when no variable had another value than the block's

    def add(self, variable: Variable, begin: int) -> None:
        """Notes that a variable, which is attached to the block, begins at this byte."""
        value, key = as_array(variable), id(variable)
        end = begin + value.nbytes
        shared, private = (
            memory[begin:end].view(value.dtype).reshape(value.shape)
            for memory in (self.bytes, self._view.bytes)
        )
        reference = weakref.ref(variable, _remover(self._entries, key))
        self._entries[key] = _Entry(reference, begin, end, shared, private)

    def remove(self, variable: Variable) -> None:
        """Forgets a variable."""
        del self._entries[id(variable)]

    def private(self, variable: Variable) -> Array:
        """The variable's part of the view, in its shape."""
        return self._entries[id(variable)].private

    def edited(self) -> list[Variable]:
        """The variables whose part of the view has other bytes than the block."""
        written = self._view.written()
        return [v for v, entry in self._alive() if self._differs(entry, written)] if written else []

    def take_edits(self) -> None:
        """Makes edits the values of their variables."""
        self._written = self._view.written()
        if not self._written and self._seen == placement().moves:
            return
        assigned = []
        for v, entry in self._alive():
            if not v.storage.shared and v.storage.version != entry.taken:
                assigned.append((v, entry))  # otherwise than by an edit
            elif self._differs(entry, self._written):
                if v.storage.shared or as_array(v).tobytes() != entry.private.tobytes():
                    v.storage.store(entry.private)
                    entry.taken = v.storage.version
            elif not v.storage.shared:  # the edit has been undone
                v.storage.attach(entry.shared)
                v.storage.changed()
        self._show(assigned)

    def discard_edits(self) -> None:
        """Shows the block again, but for variables whose value is still another one."""
        self._view.discard(self._written)
        self._view.refresh()
        self._written = []
        if self._seen != placement().moves:
            assigned = [(v, entry) for v, entry in self._alive() if not v.storage.shared]
            self._show(assigned)
            self._seen = -1 if assigned else placement().moves

    def _show(self, assigned: Sequence[tuple[Variable, _Entry]]) -> None:
        """Writes the values of variables to the view: edits that are taken already."""
        for v, entry in assigned:
            np.copyto(entry.private, as_array(v))
            entry.taken = v.storage.version
        if assigned:
            self._written = self._view.written()

    def _alive(self) -> list[tuple[Variable, _Entry]]:
        # A copy: a garbage collection in the middle may remove entries.
        entries = list(self._entries.values())
        return [(v, entry) for entry in entries if (v := entry.variable()) is not None]

    def _differs(self, entry: _Entry, written: Sequence[tuple[int, int]]) -> bool:
        """Whether a variable's bytes differ between view and block; outside of ``written`` none do."""
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
