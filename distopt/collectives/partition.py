"""Partition: divides the elements of variables into blocks, and each block into one shard per replica.

The variables are cut into pieces of 4,096 elements; the last piece of a variable may be shorter. The pieces
of all variables, in order, are divided into blocks, and each block into shards. Pieces are never cut, so sums
of squares per piece, from which norms are computed, do not depend on the number of replicas.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from distopt.core.split import shares
from distopt.typing import Array

__all__ = ["BLOCK", "CHUNK", "PIECE", "Partition", "block_size", "partition", "segments"]

#: The elements of a piece.
PIECE = 1 << 12

#: The elements of a block for up to 4 replicas: large enough that the time of barriers does not count, and
#: small enough that both halves of the staging buffer stay in a shared cache.
BLOCK = 1 << 19

#: How many elements to sum at a time with more than two replicas: partial sums stay in the L1 cache.
CHUNK = 1 << 11


@dataclass(frozen=True, eq=False)
class Partition:
    """The blocks and shards of some variables, as tables for compiled code, for one replica of a node.

    A row of a table is a segment, that is contiguous elements of one variable in one shard: index of the
    variable; and in bytes, offset in the variable, length, and offset in the block. :func:`partition` returns
    instances.

    Attributes:
        others: ``[n, 4]`` int64, the segments of the other replicas' shards, in the order of blocks.
        own: likewise, the segments of this replica's shards.
        everyone: likewise, the segments of all replicas' shards.
        ends: ``[3, blocks + 1]`` int64: for ``others``, ``own`` and ``everyone``, the first row of each
            block; the last column is the number of rows.
        itemsize: bytes of an element.
    """

    others: Array
    own: Array
    everyone: Array
    ends: Array
    itemsize: int

    @property
    def blocks(self) -> int:
        """The number of blocks."""
        return int(self.ends.shape[1] - 1)

    def others_in(self, block: int) -> Array:
        """The rows of ``others`` that belong to a block."""
        return self.others[self.ends[0, block] : self.ends[0, block + 1]]

    def own_in(self, block: int) -> Array:
        """The rows of ``own`` that belong to a block."""
        return self.own[self.ends[1, block] : self.ends[1, block + 1]]

    def everyone_in(self, block: int) -> Array:
        """The rows of ``everyone`` that belong to a block."""
        return self.everyone[self.ends[2, block] : self.ends[2, block + 1]]

    def shard(self, block: int) -> slice:
        """The elements of a block that belong to this replica's shard."""
        lengths, places = (self.own_in(block)[:, 2:] // self.itemsize).T
        return slice(places[0], places[0] + lengths.sum()) if len(places) else slice(0, 0)

    def elements(self, own: Array) -> list[tuple[int, slice]]:
        """Rows of a table as ``(index of the variable, slice of its elements)``."""
        size = self.itemsize
        return [(v, slice(start // size, (start + n) // size)) for v, start, n, _ in own.tolist()]


def block_size(parts: int) -> int:
    """The elements of a block for ``parts`` replicas: the more replicas, the smaller, down to 16 pieces.

    So the staging buffer, with one row per replica, does not grow with the number of replicas.
    """
    return max(BLOCK * 4 // max(parts, 4), 16 * PIECE)


@lru_cache(maxsize=64)
def partition(
    sizes: tuple[int, ...], parts: int, own: int, itemsize: int, block: int | None = None
) -> Partition:
    """The partition of some variables for one replica.

    Args:
        sizes: the number of elements of each variable.
        parts: the number of replicas of the node.
        own: the rank of this replica on the node.
        itemsize: bytes of an element.
        block: the elements of a block; by default :func:`block_size`.
    """
    blocks, shards, *columns = segments(sizes, parts, block).T
    rows = np.column_stack(columns) * (1, itemsize, itemsize, itemsize)
    numbers = np.arange(blocks[-1] + 2 if len(blocks) else 1)
    tables, ends = [], []
    for chosen in (shards != own, shards == own, shards >= 0):
        tables.append(rows[chosen])
        ends.append(np.searchsorted(blocks[chosen], numbers))
    others, mine, everyone = tables
    return Partition(others, mine, everyone, np.array(ends), itemsize)


def segments(sizes: tuple[int, ...], parts: int, block: int | None = None) -> Array:
    """Cuts variables of ``sizes`` elements into blocks, and each block into ``parts`` shards.

    Returns:
        ``[n, 6]`` int64, for each segment its block, its shard and its variable; and in elements, its offset
        in the variable, its length, and its offset in the block.
    """
    size = np.array(sizes, np.int64)
    counts = -(-size // PIECE)
    variables = np.repeat(np.arange(len(size)), counts)
    starts = PIECE * (np.arange(len(variables)) - np.repeat(np.cumsum(counts) - counts, counts))
    lengths = np.minimum(size[variables] - starts, PIECE)
    ends = np.cumsum(lengths)
    found = [np.empty((0, 6), np.int64)]
    block = block or block_size(parts)
    first = 0
    while first < len(lengths):
        # A block ends with the first piece that reaches its size, so it may be longer by almost a piece.
        begin = ends[first] - lengths[first]
        stop = min(int(np.searchsorted(ends, begin + block)) + 1, len(ends))
        n, start, variable = lengths[first:stop], starts[first:stop], variables[first:stop]
        places = ends[first:stop] - n - begin
        # Equal shares of the block would cut pieces: a piece goes to the shard that contains its middle.
        goals = np.cumsum(shares(int(n.sum()), parts))
        shard = np.searchsorted(goals, places + n // 2, side="right")
        # Join the pieces of one variable in one shard to a segment.
        new = np.flatnonzero(np.diff(shard, prepend=-1) | np.diff(variable, prepend=-1))
        columns = (shard[new], variable[new], start[new], np.add.reduceat(n, new), places[new])
        found.append(np.column_stack([np.full(len(new), len(found) - 1), *columns]))
        first = stop
    return np.concatenate(found)
