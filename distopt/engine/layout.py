"""Who updates what: variables -> pieces -> blocks -> shards.

The elements of a step's variables, one after the other, are cut into blocks, and each block into
one shard a replica. Cuts fall only between pieces of 4,096 elements, counted from each variable's
start, so that sums over pieces (norms) do not depend on the number of replicas.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from distopt.typing import Array

__all__ = [
    "BLOCK",
    "CHUNK",
    "PIECE",
    "Block",
    "Segment",
    "Shard",
    "block_size",
    "blocks",
    "in_bytes",
    "tables",
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
    """One round of the step.

    Attributes:
        size: its elements.
        shards: one for each replica of the node.
    """

    size: int
    shards: tuple[Shard, ...]
    _pieces: dict[tuple[int, int], Array] = field(default_factory=dict, init=False, repr=False, compare=False)

    def sent_by(self, rank: int, itemsize: int) -> Array:
        """What replica ``rank`` sends: :func:`segments_of` the others' shards, in bytes."""
        pieces = self._pieces.get((rank, itemsize))
        if pieces is None:
            others = [shard for r, shard in enumerate(self.shards) if r != rank]
            pieces = self._pieces[rank, itemsize] = segments_of(others) * in_bytes(itemsize)
        return pieces

    def pieces(self, itemsize: int) -> Array:
        """:func:`segments_of` all shards, in bytes."""
        return self.sent_by(-1, itemsize)


def segments_of(shards: Sequence[Shard]) -> Array:
    """The segments of shards as numbers, ``[n, 4]`` int64: variable, start, length, place in the block."""
    rows = []
    for shard in shards:
        at = shard.start
        for s in shard.segments:
            rows.append((s.variable, s.start, s.stop - s.start, at))
            at += s.stop - s.start
    return np.array(rows, np.int64).reshape(-1, 4)


def in_bytes(itemsize: int) -> Array:
    """The factors that turn :func:`segments_of` into bytes."""
    return np.array([1, itemsize, itemsize, itemsize])


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
def tables(sizes: tuple[int, ...], parts: int, own: int) -> tuple[Array, Array, Array]:
    """The same as numbers, for one of the parts.

    Args:
        sizes: the variables' elements.
        parts: replicas of the node.
        own: which of them.

    Returns:
        :func:`segments_of` the other parts' shards of all blocks, and of its own; and, ``[2, blocks + 1]``,
        how many of each come before each block.
    """
    found = [
        (
            segments_of([shard for part, shard in enumerate(block.shards) if part != own]),
            segments_of([block.shards[own]]),
        )
        for block in blocks(sizes, parts)
    ]
    others, mine = (np.concatenate(tables) for tables in zip(*found, strict=True))
    ends = np.cumsum([(0, 0), *((len(a), len(b)) for a, b in found)], axis=0)
    return others, mine, ends.T.copy()


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
