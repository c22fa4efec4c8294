"""Who updates what: variables -> pieces -> blocks -> shards.

The elements of a step's variables, one after the other, are cut into blocks, and each block into
one shard a replica. Cuts fall only between pieces of 4,096 elements, counted from each variable's
start, so that sums over pieces (norms) do not depend on the number of replicas.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from distopt.typing import Array

__all__ = [
    "BLOCK",
    "CHUNK",
    "PIECE",
    "Block",
    "Partition",
    "Segment",
    "Shard",
    "block_size",
    "blocks",
    "partition",
]

#: Elements of a variable that no cut parts.
PIECE = 1 << 12

#: Elements of a block for up to 4 replicas: large enough that meetings cost nothing, and small enough that
#: two turns of the ring stay in a shared cache.
BLOCK = 1 << 19

#: Elements that are summed at a time where there are more than two rows: they stay in the first cache.
CHUNK = 1 << 11


@dataclass(frozen=True)
class Segment:
    """Elements ``[start, stop)`` of variable number ``variable``, flat."""

    variable: int
    start: int
    stop: int


@dataclass(frozen=True)
class Shard:
    """The part of a block that one replica updates.

    Attributes:
        start: where it begins in the block, in elements.
        size: its elements.
        segments: the same as parts of variables, in order.
    """

    start: int
    size: int
    segments: tuple[Segment, ...]


@dataclass(frozen=True)
class Block:
    """What the replicas of a node sum between two of their meetings.

    Attributes:
        size: its elements.
        shards: one for each replica of the node.
    """

    size: int
    shards: tuple[Shard, ...]


@dataclass(frozen=True, eq=False)
class Partition:
    """Blocks and shards as numbers for compiled code, for one replica; :func:`partition` gives it.

    A row of a table is a segment: its variable, and in bytes where it starts there, its length, and its
    place in the block.

    Attributes:
        blocks: the same as objects.
        others: ``[n, 4]`` int64, the segments of the other replicas' shards, block after block.
        own: likewise, those of its own.
        everyone: likewise, those of all replicas.
        ends: ``[3, blocks + 1]`` int64, how many rows of each table come before each block.
    """

    blocks: tuple[Block, ...]
    others: Array
    own: Array
    everyone: Array
    ends: Array

    def others_in(self, block: int) -> Array:
        """The rows of ``others`` that belong to a block."""
        return self.others[self.ends[0, block] : self.ends[0, block + 1]]

    def own_in(self, block: int) -> Array:
        """The rows of ``own`` that belong to a block."""
        return self.own[self.ends[1, block] : self.ends[1, block + 1]]

    def everyone_in(self, block: int) -> Array:
        """The rows of ``everyone`` that belong to a block."""
        return self.everyone[self.ends[2, block] : self.ends[2, block + 1]]


def block_size(parts: int) -> int:
    """The elements of a block for so many replicas: all their rows together take the same memory."""
    return max(BLOCK * 4 // max(parts, 4), 16 * PIECE)


@lru_cache(maxsize=64)
def blocks(sizes: tuple[int, ...], parts: int, block: int | None = None) -> tuple[Block, ...]:
    """Cuts variables of ``sizes`` elements into blocks, and each block into ``parts`` shards.

    Args:
        sizes: the variables' elements.
        parts: replicas of the node.
        block: elements of a block; :func:`block_size` by default.
    """
    block = block_size(parts) if block is None else block
    result = []
    pending: list[Segment] = []
    filled = 0
    for segment in _pieces(sizes):
        pending.append(segment)
        filled += segment.stop - segment.start
        if filled >= block:
            result.append(_cut(pending, filled, parts))
            pending, filled = [], 0
    if pending:
        result.append(_cut(pending, filled, parts))
    return tuple(result)


@lru_cache(maxsize=64)
def partition(sizes: tuple[int, ...], parts: int, own: int, itemsize: int) -> Partition:
    """The partition of variables of ``sizes`` elements, each of ``itemsize`` bytes.

    Args:
        sizes: the variables' elements.
        parts: replicas of the node.
        own: which of them this one is.
        itemsize: bytes of an element.
    """
    found = blocks(sizes, parts)
    factors = np.array([1, itemsize, itemsize, itemsize])
    tables, ends = [], []
    for belongs in (lambda part: part != own, lambda part: part == own, lambda _: True):
        rows = [_rows([s for part, s in enumerate(block.shards) if belongs(part)]) for block in found]
        tables.append(np.concatenate([_rows([]), *rows]) * factors)
        ends.append(np.cumsum([0, *map(len, rows)]))
    others, mine, everyone = tables
    return Partition(found, others, mine, everyone, np.array(ends, np.int64))


def _rows(shards: Sequence[Shard]) -> Array:
    """The segments of shards in elements: variable, start, length, place in the block."""
    rows = []
    for shard in shards:
        at = shard.start
        for s in shard.segments:
            rows.append((s.variable, s.start, s.stop - s.start, at))
            at += s.stop - s.start
    return np.array(rows, np.int64).reshape(-1, 4)


def _pieces(sizes: Sequence[int]) -> Iterator[Segment]:
    for variable, size in enumerate(sizes):
        for start in range(0, size, PIECE):
            yield Segment(variable, start, min(start + PIECE, size))


def _cut(pieces: list[Segment], size: int, parts: int) -> Block:
    """Gives each part the pieces that begin in its share of the block."""
    shards = []
    place, start = 0, 0
    for part in range(parts):
        goal = size * (part + 1) // parts
        mine: list[Segment] = []
        begin = start
        # The last part takes what is left; others stop where the next piece would overshoot more.
        while place < len(pieces) and (part == parts - 1 or start + _length(pieces[place]) // 2 < goal):
            _append(mine, pieces[place])
            start += _length(pieces[place])
            place += 1
        shards.append(Shard(begin, start - begin, tuple(mine)))
    return Block(size, tuple(shards))


def _length(segment: Segment) -> int:
    return segment.stop - segment.start


def _append(segments: list[Segment], piece: Segment) -> None:
    """Adds a piece, joined to the one before where that is of the same variable."""
    if segments and segments[-1].variable == piece.variable:
        segments[-1] = Segment(piece.variable, segments[-1].start, piece.stop)
    else:
        segments.append(piece)
