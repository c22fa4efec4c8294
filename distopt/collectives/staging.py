"""StagingBuffer: where the replicas of a node leave for each other what others are to sum.

It has two halves. While one block is summed from the one, the next block is written into the other; so one
barrier a block is enough.
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
    """One replica's end of the buffer.

    Args:
        node: the replicas that share memory.
        block: the elements of a block at most, but for the piece that fills it.
    """

    def __init__(self, node: NodeCommunicator, block: int) -> None:
        self._node = node
        #: By the bytes of an element: the memory, its address, and the bytes of a replica's row.
        self._memory: dict[int, tuple[Array, int, int]] = {}
        self._capacity = block + PIECE
        #: The half that the block which was written last is in. Set to 0 by each call that begins, since
        #: one before may have failed on some replicas only.
        self.half = 0

    def place(self, itemsize: int) -> tuple[int, int]:
        """The buffer's address and the bytes of a row; collective when its memory is made."""
        entry = self._memory.get(itemsize)
        if entry is None:
            row = self._capacity * itemsize
            memory = shared_memory(self._node, 2 * self._node.size * row)
            entry = self._memory[itemsize] = memory, address_of(memory), row
        return entry[1], entry[2]

    def rows(self, dtype: np.dtype[Any]) -> Array:
        """The half that was written last, ``[replicas of the node, elements]``."""
        self.place(dtype.itemsize)
        memory = self._memory[dtype.itemsize][0].view(dtype)
        half: Array = memory.reshape(2, self._node.size, self._capacity)[self.half]
        return half

    def begin(self, partition: Partition, block: int, starts: Array, itemsize: int) -> None:
        """Writes this replica's part of a block, and comes back when all have."""
        self.write(partition, block, starts, itemsize)
        self._node.barrier()

    def write(self, partition: Partition, block: int, starts: Array, itemsize: int) -> None:
        """Writes this replica's part of a block into the other half.

        Args:
            partition: who sums what.
            block: the block's number.
            starts: the addresses of this replica's arrays.
            itemsize: bytes of an element.
        """
        from distopt.collectives.pointers import send  # with compiled code, which takes time to load

        self.half ^= 1
        address, row = self.place(itemsize)
        place = address + (self.half * self._node.size + self._node.rank) * row
        send(place, partition.others_in(block), starts)
