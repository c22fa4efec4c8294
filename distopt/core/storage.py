"""VariableStorage: where the value of a variable lies, and who writes to it how."""

from __future__ import annotations

import numpy as np

from distopt.core.placement import placement
from distopt.typing import Array

__all__ = ["VariableStorage"]


class VariableStorage:
    """The memory of one variable, for code that moves it or updates it in place.

    Args:
        array: the first value, which becomes the memory.
        per_replica: whether each replica has a value of its own (ON_READ).

    Attributes:
        array: the memory; with ON_READ the value of replicas that have written none yet.
        version: how many times the value has changed.
        shared: whether the memory belongs to all replicas of the node.
        copy_on_write: whether the program reads and writes the value in a view of the shared memory that is
            its replica's own, as a parameter of another framework does. An update shows there at once. What
            the program writes there is an assignment: it stays the replica's own until the next step. Set it
            before the variable gets shared memory; not for a variable that replicas of a process share.
        write_through: whether what is assigned goes to shared memory all the same, in an update that one
            replica makes for all.
        owner: the strategy whose replicas in this process use this one variable; None for one replica's.
        collective: whether those replicas assign to it together, and what they assign is aggregated.
        per_replica: with ON_READ the value of each replica of this process, by its number there; else None.
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
        """Sets the value, of the memory's shape."""
        if self.shared and not self.write_through:
            # One memory for all replicas of the node: what this replica assigns stays its own
            # until the next step, where all must have assigned alike.
            self._move(np.array(value), shared=False)
        else:
            self.array[...] = value
        self.version += 1

    def changed(self) -> None:
        """Notes that the memory was written to from outside."""
        self.version += 1

    def adopt(self, memory: Array) -> None:
        """Makes memory of another library the variable's, with the value that it holds."""
        self._move(memory, shared=False)
        self.version += 1

    def attach(self, memory: Array) -> None:
        """Moves the variable into ``memory``, which holds its value for all replicas of the node."""
        # Replicas of one process attach the one variable to views of the same memory, one after the other.
        if self.array.ctypes.data != memory.ctypes.data:
            self._move(memory, shared=True)
        else:
            self.array, self.shared = memory, True

    def detach(self) -> None:
        """Gives the variable memory of its own again, with the value that it has."""
        if self.shared:
            self._move(self.array.copy(), shared=False)

    def _move(self, memory: Array, shared: bool) -> None:
        self.array, self.shared = memory, shared
        placement().moves += 1
