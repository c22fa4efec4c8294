"""Where variables live: in memory that the replicas of a node share, or in each process.

A variable moves there when an optimizer first meets it, with replica 0's value. What a replica assigns
later stays its own until the next step; there all replicas must have assigned the same, which is then
written to the shared memory.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from distopt.collectives import ShardReduce, address_of, shared_memory
from distopt.core.split import share
from distopt.core.tensor import as_array
from distopt.core.variable import Variable
from distopt.typing import Array

__all__ = ["MemoryRegion", "SharedParameters"]

#: Regions begin at multiples of this many bytes: whole cache lines.
_ALIGN = 64
#: Variables of few bytes share a block: to make one takes messages, and UCX, which moves them in many MPIs,
#: remembers each piece of memory that was given back.
_SMALL, _BLOCK = 1 << 14, 1 << 18
#: Elements that are sent to other nodes at a time.
_AT_ONCE = 1 << 24
#: From so many bytes on the C library is asked to return what variables left: that is many system calls.
_WORTH_A_TRIM = 1 << 20


@dataclass(frozen=True)
class MemoryRegion:
    """The memory that a variable lies in.

    Attributes:
        base: 1-D memory of the variable's dtype, shared by the node.
        offset: where the variable begins in it, in elements.
        view: the variable's part, in its shape.
    """

    base: Array
    offset: int
    view: Array


class SharedParameters:
    """The regions of all variables that one replica knows.

    Args:
        reduce: who shares memory with whom.
    """

    def __init__(self, reduce: ShardReduce) -> None:
        self.reduce = reduce
        self._regions: dict[int, tuple[weakref.ref[Variable], MemoryRegion]] = {}
        self._released: dict[int, weakref.ref[Variable]] = {}
        #: Whether some variable has left shared memory for good.
        self.any_released = False
        self._rest: Array = np.empty(0, np.uint8)  # of the block for variables of few bytes

    @property
    def shared(self) -> bool:
        """Whether several replicas see one copy."""
        return self.reduce.node.size > 1

    def __str__(self) -> str:
        nodes = self.reduce.job.size // self.reduce.node.size
        if not self.shared:
            return "a copy of its own in each replica; all update all"
        where = f" on each of {nodes} nodes" if nodes > 1 else ""
        return f"one copy for {self.reduce.node.size} replicas{where}; each replica updates its shard"

    def of(self, variable: Variable) -> MemoryRegion | None:
        """The variable's region, or None."""
        entry = self._regions.get(id(variable))
        return entry[1] if entry is not None and entry[0]() is variable else None

    def released(self, variable: Variable) -> bool:
        """Whether the variable left shared memory for good (see :meth:`release`)."""
        entry = self._released.get(id(variable))
        return entry is not None and entry() is variable

    def unallocated(self, variables: Sequence[Variable]) -> list[Variable]:
        """Those that have no region yet, each once."""
        unique = {id(v): v for v in variables}.values()
        return [v for v in unique if self.of(v) is None and not self.released(v)]

    def assigned(self, variables: Sequence[Variable]) -> list[Variable]:
        """Those that this replica has assigned since the last step, each once."""
        unique = {id(v): v for v in variables}.values()
        # By address: replicas of one process may share a Variable, and see its memory by views of their own.
        return [
            v
            for v in unique
            if (found := self.of(v)) is not None and address_of(as_array(v)) != address_of(found.view)
        ]

    # -- collective
    def share(self, assigned: Sequence[Variable], columns: Sequence[Sequence[Variable]]) -> None:
        """Moves variables to where all replicas of the node see them.

        Args:
            assigned: those that all replicas have assigned since the last step.
            columns: all variables; those of one column should lie side by side.
        """
        if assigned:
            self.rewrite(assigned)
        for column in columns:
            new = self.unallocated(column)
            if new:
                self.allocate(new)

    def allocate(self, variables: Sequence[Variable]) -> None:
        """Gives variables memory side by side, holding replica 0's values."""
        groups: dict[np.dtype[np.generic], list[Variable]] = {}
        for v in variables:
            groups.setdefault(v.dtype, []).append(v)
        for dtype, members in groups.items():
            # Side by side, without gaps, so that neighbours are updated in one go.
            ends = np.cumsum([v.size for v in members]).tolist()
            base = self._memory(ends[-1], dtype)
            found = [
                MemoryRegion(base, end - v.size, base[end - v.size : end].reshape(v.shape))
                for v, end in zip(members, ends, strict=True)
            ]
            self._fill(members, found)
            for v, region in zip(members, found, strict=True):
                self._regions[id(v)] = (weakref.ref(v, _remover(self._regions, id(v))), region)
                v.storage.attach(region.view)
        if sum(v.size * v.dtype.itemsize for v in variables) >= _WORTH_A_TRIM:
            _give_back()

    def rewrite(self, variables: Sequence[Variable]) -> None:
        """Brings variables back that all replicas have assigned, with the value assigned."""
        found = [region for v in variables if (region := self.of(v)) is not None]
        self._fill(variables, found)
        for v, region in zip(variables, found, strict=True):
            v.storage.attach(region.view)

    def keep_private(self, variables: Sequence[Variable]) -> None:
        """Takes variables out of memory that is shared with a job in which this replica has no part.

        So it is in a child that a replica of that job has forked.
        """
        for v in variables:
            if self.of(v) is None:
                v.storage.detach()

    def release(self, variables: Sequence[Variable]) -> None:
        """Gives each replica its own copy, for good: from now on they may differ."""
        self.any_released = self.any_released or len(variables) > 0
        for v in variables:
            if self.of(v) is not None:
                v.storage.detach()
                del self._regions[id(v)]
            self._released[id(v)] = weakref.ref(v, _remover(self._released, id(v)))

    def _fill(self, variables: Sequence[Variable], found: Sequence[MemoryRegion]) -> None:
        """Writes replica 0's values into the regions, once a node."""
        if self.reduce.node.rank == 0:
            for region, v in zip(found, variables, strict=True):
                np.copyto(region.view, as_array(v))
        self.reduce.node.barrier()
        if self.reduce.cross.size == 1:
            return
        for region in found:
            # Each replica of the first node sends its part to those of its rank in the others.
            flat, node = region.view.reshape(-1), self.reduce.node
            part = flat[slice(*share(flat.size, node.rank, node.size))]
            # What is received is a copy, for a moment. All take part as often, threads of a process together.
            for start in range(0, -(-flat.size // node.size), _AT_ONCE):
                piece = part[start : start + _AT_ONCE]
                np.copyto(piece, self.reduce.cross.broadcast(piece))
        self.reduce.node.barrier()

    def _memory(self, elements: int, dtype: np.dtype[np.generic]) -> Array:
        nbytes = max(elements * dtype.itemsize, _ALIGN)
        if not self.shared:
            return np.zeros(elements, dtype)
        block = self._small(nbytes) if nbytes <= _SMALL else shared_memory(self.reduce.node, nbytes)
        array: Array = block[: elements * dtype.itemsize].view(dtype)
        return array

    def _small(self, nbytes: int) -> Array:
        """A piece of a block that was never used; all replicas of the node take the same ones."""
        taken = -(-nbytes // _ALIGN) * _ALIGN
        if taken > self._rest.size:
            self._rest = shared_memory(self.reduce.node, _BLOCK)
        piece, self._rest = self._rest[:taken], self._rest[taken:]
        return piece


def _remover(entries: dict[int, Any], key: int) -> Callable[[object], None]:
    """What takes an entry away when its variable has gone, since numbers of objects come again."""

    def remove(_: object) -> None:
        entries.pop(key, None)

    return remove


def _give_back() -> None:
    """Returns memory that the variables left to the system, which the C library would rather keep."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
