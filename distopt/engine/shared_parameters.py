"""SharedParameters: the memory of variables, shared by the replicas of a node if possible.

A variable moves to shared memory, with replica 0's value, when an optimizer first uses it. If a replica
assigns to it later, the value is private until the next step. That step checks that all replicas have
assigned the same value, and writes it to the shared memory.
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

#: Regions start at a multiple of this many bytes, a cache line.
_ALIGN = 64
#: Allocations of up to _SMALL bytes share a block of _BLOCK bytes. Allocating a block takes messages, and
#: UCX, the transport of many MPIs, keeps data about each freed block.
_SMALL, _BLOCK = 1 << 14, 1 << 18
#: How many elements to send to other nodes at a time.
_AT_ONCE = 1 << 24
#: From this many bytes on, the C library is asked to return the variables' old memory to the system. For less
#: memory, this is not worth its many system calls.
_WORTH_A_TRIM = 1 << 20

_Block = TypeVar("_Block", SharedBlock, ViewedBlock)


@dataclass(frozen=True)
class MemoryRegion:
    """The memory of one variable.

    Attributes:
        base: 1-D memory of the variable's dtype, shared by the node.
        offset: the offset of the variable in ``base``, in elements.
        view: a view of the variable's elements in ``base``, in its shape.
        block: the block with the private view of this replica, for a ``copy_on_write`` variable; else None.
    """

    base: Array
    offset: int
    view: Array
    block: ViewedBlock | None = None


class SharedParameters:
    """The memory regions of the variables that the steps of one replica have used.

    Args:
        reduce: the communicators of the job.
    """

    def __init__(self, reduce: ShardReduce) -> None:
        self.reduce = reduce
        self._regions: dict[int, tuple[weakref.ref[Variable], MemoryRegion]] = {}
        self._released: dict[int, weakref.ref[Variable]] = {}
        #: Whether release() was called for any variable.
        self.any_released = False
        self._plain = _Allocator(lambda nbytes: shared_block(reduce.node, nbytes))
        self._viewed = _Allocator(lambda nbytes: ViewedBlock(shared_block(reduce.node, nbytes, views=True)))

    @property
    def shared(self) -> bool:
        """Whether several replicas share one copy of the variables."""
        return self.reduce.node.size > 1

    def __str__(self) -> str:
        nodes = self.reduce.job.size // self.reduce.node.size
        if not self.shared:
            return "a copy of its own in each replica; all update all"
        where = f" on each of {nodes} nodes" if nodes > 1 else ""
        return f"one copy for {self.reduce.node.size} replicas{where}; each replica updates its shard"

    def of(self, variable: Variable) -> MemoryRegion | None:
        """The region of a variable, or None if it has none."""
        entry = self._regions.get(id(variable))
        return entry[1] if entry is not None and entry[0]() is variable else None

    def released(self, variable: Variable) -> bool:
        """Whether :meth:`release` was called for the variable."""
        entry = self._released.get(id(variable))
        return entry is not None and entry() is variable

    def unallocated(self, variables: Sequence[Variable]) -> list[Variable]:
        """The variables that have no region yet, without duplicates."""
        unique = {id(v): v for v in variables}.values()
        return [v for v in unique if self.of(v) is None and not self.released(v)]

    def assigned(self, variables: Sequence[Variable]) -> list[Variable]:
        """The variables that this replica has assigned since the last step, without duplicates."""
        unique = {id(v): v for v in variables}.values()
        # Compare addresses, not arrays: replicas of one process may share a Variable, each with other views.
        return [
            v
            for v in unique
            if (found := self.of(v)) is not None and address_of(as_array(v)) != address_of(found.view)
        ]

    def assign(self, variable: Variable, value: Array) -> None:
        """Assigns a value, unless the shared memory contains it already: then drops earlier assignments.

        Args:
            variable: the variable.
            value: an array of its shape and dtype, contiguous.
        """
        found = self.of(variable)
        if found is not None and np.array_equal(_bytes(found.view), _bytes(value)):
            variable.storage.attach(found.view)
            variable.storage.changed()
        else:
            variable.assign(value)

    def own_parts(self, variables: Sequence[Variable]) -> list[Array]:
        """This replica's part of each variable: its share if the variable is in shared memory, else all.

        Returns:
            1-D views of the variables' memory.
        """
        return [as_array(variable).reshape(-1)[self._own(variable)] for variable in variables]

    def store(self, variables: Sequence[Variable], values: Sequence[Array]) -> None:
        """Overwrites variables in place, as an update does; collective.

        Args:
            variables: the same ones, in the same order, on all replicas of the node.
            values: this replica's part of each new value, as from :meth:`own_parts`.
        """
        self.reduce.node.barrier()  # until all have read the old values
        for variable, part, value in zip(variables, self.own_parts(variables), values, strict=True):
            part[...] = value
            variable.storage.changed()
        self.reduce.node.barrier()

    def _own(self, variable: Variable) -> slice:
        node = self.reduce.node
        return slice(*share(variable.size, node.rank, node.size)) if variable.storage.shared else slice(None)

    # -- private views
    def private_view(self, variable: Variable) -> Array:
        """This replica's private view of a ``copy_on_write`` variable, in its shape.

        The view is the same array as long as the variable is in shared memory. If the variable has no region,
        as before its first step, after :meth:`release`, or in a child process of a replica, the result is its
        private memory.

        Raises:
            ValueError: the variable is in shared memory without a private view.
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
        """The variables whose private view differs from the shared memory."""
        found = {id(v) for block in self._blocks(variables) for v in block.edited()}
        return [v for v in variables if id(v) in found]

    def take_edits(self, variables: Sequence[Variable]) -> None:
        """Before a step: treats values that the program wrote to private views as assigned.

        This applies to all variables in the blocks of ``variables``. If a variable itself was assigned too,
        as by a checkpoint, the assigned value wins, and appears in the view.
        """
        for block in self._blocks(variables):
            block.take_edits()

    def discard_edits(self, variables: Sequence[Variable]) -> None:
        """After a step: private views show the shared memory again.

        Assigned values that are not in shared memory yet stay visible, so it may be called after a failed
        step too. The views must not be written between :meth:`take_edits` and this call.
        """
        for block in self._blocks(variables):
            block.discard_edits()

    def _blocks(self, variables: Sequence[Variable]) -> list[ViewedBlock]:
        regions = [region for v in variables if (region := self.of(v)) is not None]
        return list({id(r.block): r.block for r in regions if r.block is not None}.values())

    # -- collective
    def share(self, assigned: Sequence[Variable], columns: Sequence[Sequence[Variable]]) -> None:
        """Moves variables to shared memory, and writes assigned values there; collective.

        Args:
            assigned: the variables that all replicas have assigned since the last step.
            columns: lists of all variables; new ones of each list are allocated contiguously.
        """
        if assigned:
            self.rewrite(assigned)
        for column in columns:
            new = self.unallocated(column)
            if new:
                self.allocate(new)

    def allocate(self, variables: Sequence[Variable]) -> None:
        """Moves new variables to contiguous memory, with replica 0's values; collective."""
        groups: dict[tuple[np.dtype[np.generic], bool], list[Variable]] = {}
        for v in variables:
            groups.setdefault((v.dtype, v.storage.copy_on_write), []).append(v)
        for (dtype, viewed), members in groups.items():
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
                block.take_edits()  # of variables that are in the block already
            self._fill(members, found)
            for v, region in zip(members, found, strict=True):
                self._regions[id(v)] = (weakref.ref(v, _remover(self._regions, id(v))), region)
                v.storage.attach(region.view)
                if block is not None:
                    block.add(v, start + region.offset * dtype.itemsize)
            if block is not None:
                block.discard_edits()
        if sum(v.size * v.dtype.itemsize for v in variables) >= _WORTH_A_TRIM:
            _trim()

    def rewrite(self, variables: Sequence[Variable]) -> None:
        """Writes assigned values to the variables' regions, and attaches the variables again; collective."""
        found = [region for v in variables if (region := self.of(v)) is not None]
        self._fill(variables, found)
        for v, region in zip(variables, found, strict=True):
            v.storage.attach(region.view)

    def keep_private(self, variables: Sequence[Variable]) -> None:
        """Copies variables without a region to private memory.

        In a child process that a replica forked, they may be in memory that the replica's job shares.
        """
        for v in variables:
            if self.of(v) is None:
                v.storage.detach()

    def release(self, variables: Sequence[Variable]) -> None:
        """Copies variables to private memory, permanently: from now on, the replicas' values may differ."""
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
        """Writes replica 0's values to the regions, once per node; collective."""
        if self.reduce.node.rank == 0:
            for region, v in zip(found, variables, strict=True):
                np.copyto(region.view, as_array(v))
        self.reduce.node.barrier()
        if self.reduce.cross.size == 1:
            return
        for region in found:
            # Each replica of the first node sends its part to the replicas of its rank on the other nodes.
            flat, node = region.view.reshape(-1), self.reduce.node
            part = flat[slice(*share(flat.size, node.rank, node.size))]
            # In pieces, since broadcast returns a copy. The number of pieces is the same on all replicas.
            for start in range(0, -(-flat.size // node.size), _AT_ONCE):
                piece = part[start : start + _AT_ONCE]
                np.copyto(piece, self.reduce.cross.broadcast(piece))
        self.reduce.node.barrier()

    def _memory(self, nbytes: int) -> Array:
        if not self.shared:
            return np.zeros(nbytes, np.uint8)
        block, start = self._plain.take(nbytes)
        return block.bytes[start : start + nbytes]


class _Allocator(Generic[_Block]):
    """Allocates shared memory: a whole block, or a part of a block for small sizes.

    Args:
        make: ``nbytes -> block``; collective.
    """

    def __init__(self, make: Callable[[int], _Block]) -> None:
        self._make: Callable[[int], _Block] = make
        self._block: _Block | None = None  # for small sizes
        self._used = 0

    def take(self, nbytes: int) -> tuple[_Block, int]:
        """A block, and the offset of ``nbytes`` unused bytes in it; collective."""
        if nbytes > _SMALL:
            return self._make(nbytes), 0
        taken = max(-(-nbytes // _ALIGN), 1) * _ALIGN
        if self._block is None or self._used + taken > _BLOCK:
            self._block, self._used = self._make(_BLOCK), 0
        self._used += taken
        return self._block, self._used - taken


def _remover(entries: dict[int, Any], key: int) -> Callable[[object], None]:
    """A weakref callback that removes an entry when its variable is deleted, because Python reuses ids."""

    def remove(_: object) -> None:
        entries.pop(key, None)

    return remove


def _bytes(array: Array) -> Array:
    return array.reshape(-1).view(np.uint8)


def _trim() -> None:
    """Returns the variables' old memory to the system, which the C library would keep for later."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
