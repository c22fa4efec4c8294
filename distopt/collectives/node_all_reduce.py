"""NodeAllReduce: all-reduces arrays by sum, for aggregators, metrics and users.

Each replica sums its shard of a block, and writes it to a shared buffer of the node. All replicas copy the
block from there to their own arrays.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from distopt.collectives.arrays import address_of, addresses_of
from distopt.collectives.partition import PIECE
from distopt.collectives.quantized_reduce import sums_by
from distopt.collectives.reduce import reduce_joined
from distopt.collectives.shard_reduce import ShardReduce
from distopt.collectives.shared import shared_memory
from distopt.collectives.wire_formats import EXACT
from distopt.typing import Array

__all__ = ["NodeAllReduce"]

#: Sums of fewer bytes do not allocate the buffer.
_SMALL = 1 << 16
#: From this size in bytes on, results are written with streaming stores: they would not stay in the cache.
_LARGE = 1 << 23


class NodeAllReduce:
    """The all-reduce of one replica.

    Args:
        reduce: sums this replica's shards.
    """

    def __init__(self, reduce: ShardReduce) -> None:
        self._reduce, self._node = reduce, reduce.node
        self._capacity = reduce.block + PIECE
        self._buffers: dict[int, Array] = {}

    def __call__(self, arrays: Sequence[Array], wire: str = EXACT, step: int = 0) -> list[Array]:
        """Sums arrays over all replicas, in tree order; collective.

        Args:
            arrays: arrays of one dtype, with the same shapes on all replicas; read only.
            wire: the wire format of float32 numbers between nodes.
            step: the number of the step, on which the rounding to the wire format depends.

        Returns:
            new arrays, with the same bits on all replicas.
        """
        from distopt.collectives.pointers import receive  # with compiled code, which takes time to load

        shards = sums_by(self._reduce, wire, step)
        small = shards is self._reduce and arrays[0].itemsize not in self._buffers
        if small and sum(array.nbytes for array in arrays) < _SMALL:
            return reduce_joined(self._reduce.job, "sum", arrays)
        totals = _like(arrays)
        dtype, sources = arrays[0].dtype, [np.ascontiguousarray(array) for array in arrays]
        partition = self._reduce.partition(tuple([array.size for array in arrays]), dtype.itemsize)
        if not partition.blocks:
            return totals
        targets, streamed = addresses_of(totals), sum(t.nbytes for t in totals) >= _LARGE

        def room(block: int) -> Array:
            part: Array = self._buffer(dtype)[block & 1, partition.shard(block)]
            return part

        self._reduce.staging.half = 0
        blocks, given = range(partition.blocks), room if self._node.size > 1 else None
        sums = shards.totals(partition, sources, addresses_of(sources), dtype, blocks, given)
        for block, total in enumerate(sums):
            row = total
            if self._node.size > 1:
                if self._reduce.cross.size > 1:
                    np.copyto(room(block), total)
                # One barrier is enough, because the buffer has two halves and no replica can be two blocks
                # ahead of another.
                self._node.barrier()
                row = self._buffer(dtype)[block & 1]
            receive(address_of(row), partition.everyone_in(block), targets, streamed)
        return totals

    def _buffer(self, dtype: np.dtype[np.generic]) -> Array:
        """The buffer's two halves, ``[2, elements]``. The first call for an itemsize is collective."""
        buffer = self._buffers.get(dtype.itemsize)
        if buffer is None:
            nbytes = 2 * self._capacity * dtype.itemsize
            buffer = self._buffers[dtype.itemsize] = shared_memory(self._node, nbytes)
        halves: Array = buffer.view(dtype).reshape(2, -1)
        return halves


def _like(arrays: Sequence[Array]) -> list[Array]:
    """New arrays like these, in one allocation, which is faster than many small ones."""
    ends = np.cumsum([array.size for array in arrays])
    memory = np.empty(ends[-1], arrays[0].dtype)
    parts = np.split(memory, ends[:-1])
    return [part.reshape(array.shape) for part, array in zip(parts, arrays, strict=True)]
