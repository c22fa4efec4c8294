"""Sums of gradients: each replica gets the sum of its own shard, block after block.

A replica streams what others own of its gradients into its row of a ring in shared memory, meets the
others, and adds up its own shard over all rows. The ring has two turns, so one meeting a block is
enough. Between nodes, replicas of equal rank exchange their shards' partial sums.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import zip_longest
from typing import NamedTuple

import numpy as np

from distopt.collectives import Wire, subtotal, tree_pairs
from distopt.comm import Communicator
from distopt.engine.arrays import Flats, address_of
from distopt.engine.layout import PIECE, Block, Segment, block_size
from distopt.engine.shared import shared_memory
from distopt.typing import Array

__all__ = ["Ring", "Round", "gather", "segment_of"]


class Round(NamedTuple):
    """What a replica has to do for one block.

    Attributes:
        first: a row of its shard; None for this replica's own gradient, where it lies.
        second: the row to be added to it; None if there is nothing to add.
    """

    first: Array | None
    second: Array | None


class Ring:
    """One replica's end of the ring.

    Args:
        job: all replicas.
        node: those that share memory.
        cross: those of equal rank in other nodes.
    """

    def __init__(self, job: Communicator, node: Communicator, cross: Communicator) -> None:
        self._job, self._node = job, node
        self._memory: dict[int, Array] = {}
        self._places: dict[np.dtype[np.generic], tuple[int, int]] = {}
        self._turns: dict[np.dtype[np.generic], list[Array]] = {}
        self._scratch: dict[str, Array] = {}
        self._turn = 0
        self._ahead = False
        #: A block ends with the piece that fills it.
        self._capacity = block_size(node.size) + PIECE
        self._wire = Wire(cross, self._members(cross)) if cross.size > 1 else None

    def send_ahead(self, blocks: Sequence[Block], flats: Flats) -> bool:
        """Puts the first block into the ring before the replicas meet, if the ring has its memory.

        The meeting that the step begins with then serves this block too, when all have sent it.
        Nobody reads the ring between the end of one step and that meeting.

        Args:
            blocks: as for :meth:`rounds`.
            flats: likewise.

        Returns:
            whether it was done.
        """
        if flats.dtype.itemsize not in self._memory:
            return False
        self._fill(blocks[0], flats, 0)
        return True

    def open(self, ahead: bool) -> None:
        """Begins a step, when the replicas have met.

        Args:
            ahead: whether all of them have sent their first block ahead.
        """
        self._turn, self._ahead = 0, ahead

    def begin(self, block: Block, flats: Flats) -> int:
        """Sees to it that everyone's part of the first block of a group is in the ring.

        Returns:
            in which of the two turns.
        """
        if not self._ahead:
            self._next(block, flats)
            self._node.barrier()
        self._ahead = False
        return self._turn

    def passed(self, blocks: int) -> None:
        """So many blocks have gone through the ring since :meth:`begin`, by compiled code."""
        self._turn ^= (blocks - 1) & 1

    def place(self, dtype: np.dtype[np.generic]) -> tuple[int, int]:
        """Where the ring lies, for compiled code: its address, and the bytes of a row."""
        place = self._places.get(dtype)
        if place is None:
            place = self._places[dtype] = address_of(self._bytes(dtype)), self._capacity * dtype.itemsize
        return place

    def rounds(self, blocks: Sequence[Block], flats: Flats) -> Iterator[Round]:
        """Goes through the blocks with all other replicas.

        Args:
            blocks: which elements, in order.
            flats: this replica's gradients, one for each variable of the layout.
        """
        if self._wire is not None:
            yield from (Round(total, None) for total in self._wire.totals(self._own_parts(blocks, flats)))
        elif self._node.size == 1:
            yield from (Round(None, None) for _ in blocks)
        else:
            yield from (self._last_two(rows) for rows in self._own_parts(blocks, flats))

    def _own_parts(self, blocks: Sequence[Block], flats: Flats) -> Iterator[list[Array]]:
        """For each block the node's parts of the own shard, by rank, until the next is asked for.

        Where this replica's own is gathered from several variables, it is copied.
        """
        if self._node.size == 1:
            for block in blocks:
                segments = block.shards[0].segments
                yield [gather(flats, segments, np.empty(block.size, flats.dtype))]
            return
        self.begin(blocks[0], flats)
        for block, following in zip_longest(blocks, blocks[1:]):
            ring = self._rows(flats.dtype)[self._turn]
            if following is not None:
                self._next(following, flats)
            yield self._own_rows(ring, block, flats)
            if following is not None:
                self._node.barrier()

    def _own_rows(self, ring: Array, block: Block, flats: Sequence[Array]) -> list[Array]:
        """All replicas' parts of the own shard, by rank, from the rows of a turn."""
        own = block.shards[self._node.rank]
        part = slice(own.start, own.start + own.size)
        rows = [row[part] for row in ring]
        rows[self._node.rank] = gather(flats, own.segments, ring[self._node.rank, part])
        return rows

    def _last_two(self, rows: list[Array]) -> Round:
        """Adds up all but what can be left to the update: the last addition."""
        size, dtype = rows[0].size, rows[0].dtype
        *before, (_, last) = tree_pairs(len(rows))
        by_number = dict(enumerate(rows))
        first = subtotal(by_number, before, 0, self.room("first", size, dtype))
        second = subtotal(by_number, before, last, self.room("second", size, dtype))
        return Round(first, second)

    def _next(self, block: Block, flats: Flats) -> None:
        """Fills the next turn."""
        self._turn ^= 1
        self._fill(block, flats, self._turn)

    def _fill(self, block: Block, flats: Flats, turn: int) -> None:
        """Streams what others own of a block into a turn."""
        address, row = self.place(flats.dtype)
        pieces = block.sent_by(self._node.rank, flats.dtype.itemsize)
        _send()(address + (turn * self._node.size + self._node.rank) * row, pieces, flats.starts)

    def _rows(self, dtype: np.dtype[np.generic]) -> list[Array]:
        """The two turns, each ``[replicas of the node, elements]``."""
        turns = self._turns.get(dtype)
        if turns is None:
            turns = list(self._bytes(dtype).view(dtype).reshape(2, self._node.size, self._capacity))
            self._turns[dtype] = turns
        return turns

    def _bytes(self, dtype: np.dtype[np.generic]) -> Array:
        """The ring's memory for elements of this size; collective when it is made."""
        memory = self._memory.get(dtype.itemsize)
        if memory is None:
            nbytes = 2 * self._node.size * self._capacity * dtype.itemsize
            memory = self._memory[dtype.itemsize] = shared_memory(self._node, nbytes)
        return memory

    def room(self, purpose: str, size: int, dtype: np.dtype[np.generic]) -> Array:
        """Scratch memory of ``size`` elements."""
        room = self._scratch.get(purpose)
        if room is None or room.nbytes < size * dtype.itemsize:
            room = self._scratch[purpose] = np.empty(size * dtype.itemsize, np.uint8)
        part: Array = room[: size * dtype.itemsize].view(dtype)
        return part

    def _members(self, cross: Communicator) -> list[tuple[int, ...]]:
        """For each node, in the order of ``cross``, the numbers of its replicas."""
        ranks = np.concatenate(self._node.all_gather(np.array([self._job.rank], np.int64)))
        return [tuple(int(r) for r in row) for row in cross.all_gather(ranks)]


@cache
def _send() -> Callable[[int, Array, Array], None]:
    from distopt.engine.pointers import send

    return send  # type: ignore[no-any-return]


def segment_of(flats: Sequence[Array], segment: Segment) -> Array:
    """The elements of a segment where they lie."""
    return flats[segment.variable][segment.start : segment.stop]


def gather(flats: Sequence[Array], segments: Sequence[Segment], out: Array) -> Array:
    """The elements of ``segments`` as one array: a view if they are of one variable, else ``out``."""
    if len(segments) == 1:
        return segment_of(flats, segments[0])
    pack(flats, segments, out)
    return out


def pack(flats: Sequence[Array], segments: Sequence[Segment], out: Array) -> None:
    """Copies the elements of ``segments`` into ``out``, one after the other."""
    if len(segments) == 1:
        s = segments[0]
        np.copyto(out, flats[s.variable][s.start : s.stop])
    elif segments:
        np.concatenate([flats[s.variable][s.start : s.stop] for s in segments], out=out)
