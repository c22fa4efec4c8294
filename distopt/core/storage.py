"""VariableStorage: the memory of a variable, private or shared by the replicas of a node."""

from __future__ import annotations

import numpy as np

from distopt.core.placement import placement
from distopt.typing import Array

__all__ = ["VariableStorage"]


class VariableStorage:
    """The memory of one variable, for code that moves it or updates it in place.

    Args:
        array: the initial value, which becomes the memory.
        per_replica: whether each replica has its own value (ON_READ).

    Attributes:
        array: the memory. With ON_READ, the initial value of replicas that have not written one.
        version: the number of times the value has changed.
        shared: whether all replicas of the node share the memory.
        copy_on_write: whether the program accesses the value in a private, copy-on-write view of the shared
            memory, as it does with parameters of other frameworks. Updates are visible in the view at once.
            What the program writes to the view stays private, and is an assignment in the next step. Set it
            before the variable gets shared memory, and not for a variable that replicas of a process share.
        write_through: whether assignments write to the shared memory directly, as in an update that one
            replica makes for all.
        owner: the strategy whose replicas in this process share this Variable object; None if only one uses
            it.
        collective: whether assignments in those replicas are collective and aggregated.
        per_replica: with ON_READ, the value of each replica of this process by number; else None.
    """

    __slots__ = (
        "array",
        "collective",
        "copy_on_write",
        "owner",
        "per_replica",
        "shared",
        "version",
        "write_through",
    )

    def __init__(self, array: Array, per_replica: bool = False) -> None:
        self.array = array
        self.version = 0
        self.shared = False
        self.copy_on_write = False
        self.write_through = False
        self.owner = placement().owner()
        self.collective = self.owner is not None
        self.per_replica: dict[int, Array] | None = {} if per_replica else None

    def store(self, value: Array) -> None:
        """Sets the value to an array of the same shape."""
        if self.shared and not self.write_through:
            # The variable leaves shared memory, so that the assignment stays private to this replica until
            # the next step, which requires that all replicas assigned the same value.
            self._move(np.array(value), shared=False)
        else:
            self.array[...] = value
        self.version += 1

    def changed(self) -> None:
        """Call this after writing to the memory directly."""
        self.version += 1

    def adopt(self, memory: Array) -> None:
        """Makes ``memory``, an array of another library, the variable's private memory.

        It holds the new value.
        """
        self._move(memory, shared=False)
        self.version += 1

    def attach(self, memory: Array) -> None:
        """Makes ``memory`` the variable's shared memory. It already holds the value."""
        # Replicas of one process that share the Variable attach it to the same memory, one after the other.
        # That is no move.
        if self.array.ctypes.data != memory.ctypes.data:
            self._move(memory, shared=True)
        else:
            self.array, self.shared = memory, True

    def detach(self) -> None:
        """Moves the variable from shared to private memory, with its current value."""
        if self.shared:
            self._move(self.array.copy(), shared=False)

    def _move(self, memory: Array, shared: bool) -> None:
        self.array, self.shared = memory, shared
        placement().moves += 1
