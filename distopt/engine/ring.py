"""Sums of gradients: each replica gets the sum of its own shard, block after block.

A replica copies what others own of its gradients into its row of a small ring in shared memory,
meets the others, and adds up its own shard over all rows, its own part straight from where it lies.
The ring has two turns, so one meeting a block is enough, and it is small enough to stay in the
cache. Between nodes, replicas of equal rank exchange their shards' partial sums.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from distopt.collectives import live_rows, local_pairs, reduce_rows, shard_bounds, tree_pairs
from distopt.comm import Communicator
from distopt.engine.layout import BLOCK, PIECE, Block, Segment
from distopt.typing import Array

__all__ = ["Ring", "gather"]

_CAPACITY = BLOCK + PIECE


class Ring:
    """One replica's end of the ring.

    Args:
        job: all replicas.
        node: those that share memory.
        cross: those of equal rank in other nodes.
    """

    def __init__(self, job: Communicator, node: Communicator, cross: Communicator) -> None:
        self._job, self._node, self._cross = job, node, cross
        self._memory: dict[int, Array] = {}
        self._turn = 0
        self._members = self._find_members() if cross.size > 1 else []

    def sum_shard(self, block: Block, flats: Sequence[Array], scratch: Array) -> Array:
        """The sum over all replicas of this one's shard of ``block``.

        Args:
            block: which elements.
            flats: this replica's gradients, one flat array for each variable of the layout.
            scratch: at least as long as the shard; where a sum is written.

        Returns:
            the sum, of the shard's length: part of ``scratch``, or with one replica the gradient
            itself where it lies in one piece.
        """
        own = block.shards[self._node.rank]
        if self._node.size == 1:
            row = gather(flats, own.segments, scratch[: own.size])
            return row if self._cross.size == 1 else self._across([row], scratch[: own.size])
        ring = self._rows(scratch.dtype)
        mine = ring[self._node.rank]
        for rank, shard in enumerate(block.shards):
            if rank != self._node.rank and shard.size:
                pack(flats, shard.segments, mine[shard.start : shard.start + shard.size])
        self._node.barrier()
        part = slice(own.start, own.start + own.size)
        rows = [row[part] for row in ring]
        rows[self._node.rank] = gather(flats, own.segments, mine[part])
        total = scratch[: own.size]
        if self._cross.size == 1:
            reduce_rows(rows, total)
            return total
        return self._across(rows, total)

    def _rows(self, dtype: np.dtype[np.generic]) -> Array:
        """The rows of the turn, ``[replicas of the node, elements]``; the next call gets the other turn."""
        memory = self._memory.get(dtype.itemsize)
        if memory is None:
            nbytes = 2 * self._node.size * _CAPACITY * dtype.itemsize
            block = self._node.shared_block(nbytes)
            if block is None:
                raise MemoryError(
                    f"no room for {nbytes:,} bytes of shared memory on this node: set DISTOPT_MEMORY=private"
                )
            memory = self._memory[dtype.itemsize] = block.bytes
        self._turn ^= 1
        rows: Array = memory.view(dtype).reshape(2, self._node.size, _CAPACITY)[self._turn]
        return rows

    # -- between nodes
    def _find_members(self) -> list[tuple[int, ...]]:
        """For each node, in the order of ``cross``, the numbers of its replicas."""
        ranks = np.concatenate(self._node.all_gather(np.array([self._job.rank], np.int64)))
        return [tuple(int(r) for r in row) for row in self._cross.all_gather(ranks)]

    def _across(self, rows: Sequence[Array], total: Array) -> Array:
        """The sum over all nodes of what their replicas hold of this shard."""
        size = self._job.size
        members = self._members
        mine = members[self._cross.rank]
        by_number = dict(zip(mine, rows, strict=True))
        live = live_rows(size, mine)
        partial = np.zeros((max(len(live_rows(size, m)) for m in members), total.size), total.dtype)
        for place, root in enumerate(live):
            _reduce_tree(by_number, local_pairs(size, mine), root, partial[place])
        bounds = shard_bounds(total.size, self._cross.size)
        sent = [
            np.ascontiguousarray(partial[:, a:b]).reshape(-1)
            for a, b in zip(bounds, bounds[1:], strict=False)
        ]
        own = bounds[self._cross.rank + 1] - bounds[self._cross.rank]
        current: dict[int, Array] = {}
        for received, node in zip(self._cross.all_to_all(sent), members, strict=True):
            current.update(zip(live_rows(size, node), received.reshape(-1, own), strict=False))
        spent = {pair for node in members for pair in local_pairs(size, node)}
        rest = [pair for pair in tree_pairs(size) if pair not in spent]
        width = max(b - a for a, b in zip(bounds, bounds[1:], strict=False))
        result = np.zeros(width, total.dtype)
        _reduce_tree(current, rest, 0, result[:own])
        for start, stop, part in zip(bounds, bounds[1:], self._cross.all_gather(result), strict=False):
            total[start:stop] = part[: stop - start]
        return total


def _reduce_tree(rows: dict[int, Array], pairs: Sequence[tuple[int, int]], root: int, out: Array) -> None:
    """Adds up those rows that ``pairs`` bring together in row ``root``."""
    below = {root}
    for i, j in reversed(pairs):
        if i in below:
            below.add(j)
    numbers = sorted(below)
    place = {number: k for k, number in enumerate(numbers)}
    order = [(place[i], place[j]) for i, j in pairs if i in below]
    reduce_rows([rows[number] for number in numbers], out, np.add, order)


def gather(flats: Sequence[Array], segments: Sequence[Segment], out: Array) -> Array:
    """The elements of ``segments`` as one array: a view if they are of one variable, else ``out``."""
    if len(segments) == 1:
        s = segments[0]
        return flats[s.variable][s.start : s.stop]
    pack(flats, segments, out)
    return out


def pack(flats: Sequence[Array], segments: Sequence[Segment], out: Array) -> None:
    """Copies the elements of ``segments`` into ``out``, one after the other."""
    if len(segments) == 1:
        s = segments[0]
        np.copyto(out, flats[s.variable][s.start : s.stop])
    elif segments:
        np.concatenate([flats[s.variable][s.start : s.stop] for s in segments], out=out)
