"""StagingBuffer: shared memory of a node, through which replicas pass gradients of each other's shards.

It has two halves, and each half has one row per replica. While the replicas sum one block from one half, they
write the next block to the other half, so one barrier per block is enough.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from distopt.collectives.arrays import address_of
from distopt.collectives.partition import PIECE, Partition
from distopt.collectives.shared import shared_memory
from distopt.comm import NodeCommunicator
from distopt.typing import Array

__all__ = ["StagingBuffer"]


class StagingBuffer:
    """The staging buffer, as one replica uses it.

    Args:
        node: the replicas that share memory.
        block: the size of the largest block in elements; a row has room for one more piece.
    """

    def __init__(self, node: NodeCommunicator, block: int) -> None:
        self._node = node
        #: For each itemsize: the memory, its address, and the bytes of a row.
        self._memory: dict[int, tuple[Array, int, int]] = {}
        self._capacity = block + PIECE
        #: The half, 0 or 1, that contains the last block written. Each call starts with 0, because an earlier
        #: call may have failed on some replicas only.
        self.half = 0

    def place(self, itemsize: int) -> tuple[int, int]:
        """The buffer's address and the bytes of a row. The first call for an itemsize is collective."""
        entry = self._memory.get(itemsize)
        if entry is None:
            row = self._capacity * itemsize
            memory = shared_memory(self._node, 2 * self._node.size * row)
            entry = self._memory[itemsize] = memory, address_of(memory), row
        return entry[1], entry[2]

    def rows(self, dtype: np.dtype[Any]) -> Array:
        """The half that was written last, ``[replicas of the node, elements of a row]``."""
        self.place(dtype.itemsize)
        memory = self._memory[dtype.itemsize][0].view(dtype)
        half: Array = memory.reshape(2, self._node.size, self._capacity)[self.half]
        return half

    def begin(self, partition: Partition, block: int, starts: Array, itemsize: int) -> None:
        """Writes this replica's part of a block, and waits until all replicas of the node have done so."""
        self.write(partition, block, starts, itemsize)
        self._node.barrier()

    def write(self, partition: Partition, block: int, starts: Array, itemsize: int) -> None:
        """Writes this replica's part of a block, without its own shard, to the other half.

        Args:
            partition: the shards of the block.
            block: the block's number.
            starts: the addresses of this replica's arrays, ``[arrays]`` int64.
            itemsize: bytes of an element.
        """
        from distopt.collectives.pointers import send  # with compiled code, which takes time to load

        self.half ^= 1
        address, row = self.place(itemsize)
        place = address + (self.half * self._node.size + self._node.rank) * row
        send(place, partition.others_in(block), starts)
