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
from typing import Any, Generic, TypeVar

import numpy as np

from distopt.collectives import ShardReduce, address_of, shared_block
from distopt.comm import SharedBlock
from distopt.core.split import share
from distopt.core.tensor import as_array
from distopt.core.variable import Variable
from distopt.engine.viewed_block import ViewedBlock
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

_Block = TypeVar("_Block", SharedBlock, ViewedBlock)


@dataclass(frozen=True)
class MemoryRegion:
    """The memory that a variable lies in.

    Attributes:
        base: 1-D memory of the variable's dtype, shared by the node.
        offset: where the variable begins in it, in elements.
        view: the variable's part, in its shape.
        block: the block, if this replica has a private view of it: that of a ``copy_on_write`` variable.
    """

    base: Array
    offset: int
    view: Array
    block: ViewedBlock | None = None


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
        self._plain = _Pieces(lambda nbytes: shared_block(reduce.node, nbytes))
        self._viewed = _Pieces(lambda nbytes: ViewedBlock(shared_block(reduce.node, nbytes, views=True)))

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

    def assign(self, variable: Variable, value: Array) -> None:
        """Gives a variable a value; if it is the one in shared memory, that is as if nothing was assigned.

        Args:
            variable: the variable.
            value: of its shape and dtype, contiguous.
        """
        found = self.of(variable)
        if found is not None and np.array_equal(_bytes(found.view), _bytes(value)):
            variable.storage.attach(found.view)
            variable.storage.changed()
        else:
            variable.assign(value)

    def own_parts(self, variables: Sequence[Variable]) -> list[Array]:
        """This replica's part of each variable: its share of what the node shares, all of what is its own.

        Returns:
            1-D arrays, in the memory of the variables.
        """
        return [as_array(variable).reshape(-1)[self._own(variable)] for variable in variables]

    def store(self, variables: Sequence[Variable], values: Sequence[Array]) -> None:
        """Gives variables values that all replicas of the node have, as an update does; collective.

        Args:
            variables: the same ones, in the same order, on all of them.
            values: this replica's part of each.
        """
        self.reduce.node.barrier()  # all have read what stands there
        for variable, part, value in zip(variables, self.own_parts(variables), values, strict=True):
            part[...] = value
            variable.storage.changed()
        self.reduce.node.barrier()

    def _own(self, variable: Variable) -> slice:
        node = self.reduce.node
        return slice(*share(variable.size, node.rank, node.size)) if variable.storage.shared else slice(None)

    # -- private views
    def private_view(self, variable: Variable) -> Array:
        """This replica's view of a ``copy_on_write`` variable, in its shape.

        It stays the same as long as the variable is in shared memory. For one that has not come there, or
        has left it (see :meth:`release`), or belongs to a job of which this process is a child, it is the
        replica's own memory.

        Raises:
            ValueError: the variable is in shared memory, and is not read through views.
        """
        found = self.of(variable)
        if found is None:
            self.keep_private([variable])
            return as_array(variable)
        if found.block is None:
            raise ValueError(
                f"variable {variable.name!r} came to shared memory without views: set its "
                f"storage.copy_on_write before its first step"
            )
        return found.block.private(variable)

    def edited(self, variables: Sequence[Variable]) -> list[Variable]:
        """Those whose private view has other bytes than the shared memory."""
        found = {id(v) for block in self._blocks(variables) for v in block.edited()}
        return [v for v in variables if id(v) in found]

    def take_edits(self, variables: Sequence[Variable]) -> None:
        """Before a step: makes what the program wrote through private views an assignment.

        It concerns all variables in the blocks of these. What was assigned to a variable itself, as by a
        checkpoint, goes before what was written through its view, and shows there from now on.
        """
        for block in self._blocks(variables):
            block.take_edits()

    def discard_edits(self, variables: Sequence[Variable]) -> None:
        """After a step of these variables: private views show the shared memory again.

        What no step has accepted yet is still there, so it may follow a step that failed, too. Between
        :meth:`take_edits` and this nothing may be written through the views.
        """
        for block in self._blocks(variables):
            block.discard_edits()

    def _blocks(self, variables: Sequence[Variable]) -> list[ViewedBlock]:
        regions = [region for v in variables if (region := self.of(v)) is not None]
        return list({id(r.block): r.block for r in regions if r.block is not None}.values())

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
        groups: dict[tuple[np.dtype[np.generic], bool], list[Variable]] = {}
        for v in variables:
            groups.setdefault((v.dtype, v.storage.copy_on_write), []).append(v)
        for (dtype, viewed), members in groups.items():
            # Side by side, without gaps, so that neighbours are updated in one go.
            ends = np.cumsum([v.size for v in members]).tolist()
            nbytes = ends[-1] * dtype.itemsize
            block, start = self._viewed.take(nbytes) if viewed else (None, 0)
            memory = self._memory(nbytes) if block is None else block.bytes[start : start + nbytes]
            base: Array = memory.view(dtype)
            found = [
                MemoryRegion(base, end - v.size, base[end - v.size : end].reshape(v.shape), block)
                for v, end in zip(members, ends, strict=True)
            ]
            if block is not None:
                block.take_edits()  # of what lies there already
            self._fill(members, found)
            for v, region in zip(members, found, strict=True):
                self._regions[id(v)] = (weakref.ref(v, _remover(self._regions, id(v))), region)
                v.storage.attach(region.view)
                if block is not None:
                    block.add(v, start + region.offset * dtype.itemsize)
            if block is not None:
                block.discard_edits()
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
        self.take_edits(variables)
        for v in variables:
            found = self.of(v)
            if found is not None:
                v.storage.detach()
                del self._regions[id(v)]
                if found.block is not None:
                    found.block.remove(v)
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

    def _memory(self, nbytes: int) -> Array:
        if not self.shared:
            return np.zeros(nbytes, np.uint8)
        block, start = self._plain.take(nbytes)
        return block.bytes[start : start + nbytes]


class _Pieces(Generic[_Block]):
    """Memory for variables: a block, or a piece of one for few bytes; the same on all replicas of the node.

    Args:
        make: makes a block of so many bytes; collective.
    """

    def __init__(self, make: Callable[[int], _Block]) -> None:
        self._make: Callable[[int], _Block] = make
        self._block: _Block | None = None  # for few bytes
        self._used = 0

    def take(self, nbytes: int) -> tuple[_Block, int]:
        """A block, and where in it ``nbytes`` begin that were never used."""
        if nbytes > _SMALL:
            return self._make(nbytes), 0
        taken = max(-(-nbytes // _ALIGN), 1) * _ALIGN
        if self._block is None or self._used + taken > _BLOCK:
            self._block, self._used = self._make(_BLOCK), 0
        self._used += taken
        return self._block, self._used - taken


def _remover(entries: dict[int, Any], key: int) -> Callable[[object], None]:
    """What takes an entry away when its variable has gone, since numbers of objects come again."""

    def remove(_: object) -> None:
        entries.pop(key, None)

    return remove


def _bytes(array: Array) -> Array:
    return array.reshape(-1).view(np.uint8)


def _give_back() -> None:
    """Returns memory that the variables left to the system, which the C library would rather keep."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
