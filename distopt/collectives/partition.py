"""Who updates what: variables -> pieces -> blocks -> shards.

The elements of a step's variables, one after the other, are cut into blocks, and each block into
one shard a replica. Cuts fall only between pieces of 4,096 elements, counted from each variable's
start, so that sums over pieces (norms) do not depend on the number of replicas.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from distopt.core.split import shares
from distopt.typing import Array

__all__ = ["BLOCK", "CHUNK", "PIECE", "Partition", "block_size", "partition", "segments"]

#: Elements of a variable that no cut parts.
PIECE = 1 << 12

#: Elements of a block for up to 4 replicas: large enough that barriers cost nothing, and small enough that
#: two turns of the ring stay in a shared cache.
BLOCK = 1 << 19

#: Elements that are summed at a time where there are more than two rows: they stay in the first cache.
CHUNK = 1 << 11


@dataclass(frozen=True, eq=False)
class Partition:
    """Who updates what, as numbers for compiled code, for one replica; :func:`partition` gives it.

    A row of a table is a segment, elements of one variable that lie side by side in one shard: its
    variable, and in bytes where it starts there, its length, and its place in the block.

    Attributes:
        others: ``[n, 4]`` int64, the segments of the other replicas' shards, block after block.
        own: likewise, those of its own.
        everyone: likewise, those of all replicas.
        ends: ``[3, blocks + 1]`` int64, how many rows of each table come before each block.
        itemsize: bytes of an element.
    """

    others: Array
    own: Array
    everyone: Array
    ends: Array
    itemsize: int

    @property
    def blocks(self) -> int:
        """How many blocks there are."""
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
        """The elements of a block that are this replica's shard."""
        lengths, places = (self.own_in(block)[:, 2:] // self.itemsize).T
        return slice(places[0], places[0] + lengths.sum()) if len(places) else slice(0, 0)

    def elements(self, own: Array) -> list[tuple[int, slice]]:
        """Rows of ``own`` as numbers of variables, and elements of these."""
        size = self.itemsize
        return [(v, slice(start // size, (start + n) // size)) for v, start, n, _ in own.tolist()]


def block_size(parts: int) -> int:
    """The elements of a block for so many replicas: all their rows together take the same memory."""
    return max(BLOCK * 4 // max(parts, 4), 16 * PIECE)


@lru_cache(maxsize=64)
def partition(
    sizes: tuple[int, ...], parts: int, own: int, itemsize: int, block: int | None = None
) -> Partition:
    """The partition of variables of ``sizes`` elements, each of ``itemsize`` bytes.

    Args:
        sizes: the variables' elements.
        parts: replicas of the node.
        own: which of them this one is.
        itemsize: bytes of an element.
        block: the elements of a block; :func:`block_size` by default.
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
        ``[n, 6]`` int64, for each segment its block, its shard, its variable, and in elements where it
        starts there, its length, and its place in the block.
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
        # A block ends with the piece that fills it.
        begin = ends[first] - lengths[first]
        stop = min(int(np.searchsorted(ends, begin + block)) + 1, len(ends))
        n, start, variable = lengths[first:stop], starts[first:stop], variables[first:stop]
        places = ends[first:stop] - n - begin
        # A shard gets the pieces whose middle lies in its share of the block.
        goals = np.cumsum(shares(int(n.sum()), parts))
        shard = np.searchsorted(goals, places + n // 2, side="right")
        # Its pieces of one variable are one segment.
        new = np.flatnonzero(np.diff(shard, prepend=-1) | np.diff(variable, prepend=-1))
        columns = (shard[new], variable[new], start[new], np.add.reduceat(n, new), places[new])
        found.append(np.column_stack([np.full(len(new), len(found) - 1), *columns]))
        first = stop
    return np.concatenate(found)
