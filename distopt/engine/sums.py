"""Sums of arrays over all replicas, whole, for code that is not the engine's own: aggregators, metrics.

They go through the same ring as a step. What each replica has summed of a block it puts on a board that
the node shares, from which all copy the block into arrays of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import numpy as np

from distopt.comm import Communicator
from distopt.engine.arrays import Flats, address_of
from distopt.engine.layout import PIECE, Block, block_size, blocks
from distopt.engine.ring import Ring, Round
from distopt.engine.shared import shared_memory
from distopt.typing import Array

__all__ = ["Sums"]

#: From this many bytes on, results do not stay in a cache until somebody reads them.
_LARGE = 1 << 23


class Sums:
    """One replica's side of the sums.

    Args:
        ring: brings the other replicas' arrays.
        node: the replicas that share memory.
    """

    def __init__(self, ring: Ring, node: Communicator) -> None:
        self._ring, self._node = ring, node
        self._capacity = block_size(node.size) + PIECE
        self._boards: dict[int, Array] = {}

    def __call__(self, arrays: Sequence[Array]) -> list[Array]:
        """Sums arrays over all replicas, in tree order.

        Args:
            arrays: of one dtype; of the same shapes on all replicas. They are not changed.

        Returns:
            new arrays, the same bits on every replica.
        """
        totals = _like(arrays)
        parts = blocks(tuple(array.size for array in arrays), self._node.size)
        if not parts:
            return totals
        flats, targets = Flats.of(arrays), Flats.of(totals)
        itemsize, streamed = flats.dtype.itemsize, sum(t.nbytes for t in totals) >= _LARGE
        self._ring.open(False)
        for number, (block, turn) in enumerate(zip(parts, self._ring.rounds(parts, flats), strict=True)):
            row = self._collect(number & 1, block, turn, flats.dtype)
            _receive()(address_of(row), block.pieces(itemsize), targets.starts, streamed)
        return totals

    def _collect(self, turn: int, block: Block, own: Round, dtype: np.dtype[np.generic]) -> Array:
        """The sums of a whole block, from those that each replica of the node has."""
        assert own.first is not None
        if self._node.size == 1:
            return own.first
        row: Array = self._board(dtype)[turn]
        shard = block.shards[self._node.rank]
        part = row[shard.start : shard.start + shard.size]
        if own.second is None:
            np.copyto(part, own.first)
        else:
            np.add(own.first, own.second, out=part)
        # With two turns one meeting is enough: nobody is two blocks ahead of another.
        self._node.barrier()
        return row

    def _board(self, dtype: np.dtype[np.generic]) -> Array:
        """The board's two turns, ``[2, elements]``; collective when its memory is made."""
        board = self._boards.get(dtype.itemsize)
        if board is None:
            nbytes = 2 * self._capacity * dtype.itemsize
            board = self._boards[dtype.itemsize] = shared_memory(self._node, nbytes)
        turns: Array = board.view(dtype).reshape(2, -1)
        return turns


def _like(arrays: Sequence[Array]) -> list[Array]:
    """New arrays in one piece of memory, which the system gives out faster than many small ones."""
    ends = np.cumsum([array.size for array in arrays])
    memory = np.empty(ends[-1], arrays[0].dtype)
    parts = np.split(memory, ends[:-1])
    return [part.reshape(array.shape) for part, array in zip(parts, arrays, strict=True)]


@cache
def _receive() -> Callable[[int, Array, Array, bool], None]:
    from distopt.engine.pointers import receive

    return receive  # type: ignore[no-any-return]
