"""QuantizedExchange: one block on its way between nodes, in a wire format.

What each node has of a part of the block goes to the node that owns the part, which adds up and sends the
total to all. The contribution of every node, the owner's too, is rounded once, the total once; in between
all is added in float32, in tree order. So the result depends neither on who owns what, nor on the layout of
a node.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from distopt.collectives.partition import PIECE, Partition
from distopt.collectives.reused_memory import ReusedMemory
from distopt.collectives.tree import reduce_rows
from distopt.collectives.wire_formats import WireFormat
from distopt.comm import Arrivals, Communicator
from distopt.typing import Array

__all__ = ["BlockPart", "QuantizedExchange", "block_parts"]

#: Of the streams of a step: that of totals; those of nodes come after it.
_OF_TOTALS = 0
_WORD = (1 << 64) - 1


class BlockPart(NamedTuple):
    """What one node owns of a replica's shard of a block.

    Attributes:
        place: the elements of the shard.
        pieces: ``[n, 4]`` int64, in elements: each piece's variable, its start there, its length, and its
            place in the part.
        scales: how many scales its numbers have.
        nbytes: the bytes of a message with its numbers.
    """

    place: slice
    pieces: Array
    scales: int
    nbytes: int


@lru_cache(maxsize=1024)
def block_parts(partition: Partition, block: int, nodes: int, wire: WireFormat) -> tuple[BlockPart, ...]:
    """A replica's shard of a block, cut into a part a node, between pieces."""
    segments = partition.own_in(block) // (1, partition.itemsize, partition.itemsize, partition.itemsize)
    rows = [
        (variable, at, min(PIECE, start + length - at))
        for variable, start, length, _ in segments.tolist()
        for at in range(start, start + length, PIECE)
    ]
    pieces = np.array(rows, np.int64).reshape(-1, 3)
    ends = np.cumsum(pieces[:, 2])
    begins, total = ends - pieces[:, 2], int(ends[-1]) if len(ends) else 0
    # A part begins with the first piece that begins at its share of the elements or later.
    cuts = np.searchsorted(begins, [total * node // nodes for node in range(nodes)]).tolist()
    parts = []
    for first, stop in zip(cuts, [*cuts[1:], len(pieces)], strict=True):
        start = int(begins[first]) if first < len(pieces) else total
        end = int(begins[stop]) if stop < len(pieces) else total
        own = np.hstack([pieces[first:stop], begins[first:stop, None] - start])
        scales = wire.scales(own)
        parts.append(BlockPart(slice(start, end), own, scales, wire.nbytes(scales, end - start)))
    return tuple(parts)


def _stream(step: int, number: int) -> np.uint64:
    """What random numbers of a step depend on, of the totals' (0) or a node's stream."""
    return np.uint64((step * 0xD1342543DE82EF95 + number * 0xAF251AF3B0F025B5 + 1) & _WORD)


class QuantizedExchange:
    """One node's side of it. It begins at once, and goes on whenever :meth:`advance` is called.

    Args:
        cross: the nodes.
        wire: the format.
        parts: what each node owns.
        own: the node's own sum, 1-D float32; it is read at once.
        step: the number of the step, for random numbers.
        tag: tells messages apart that are on their way at once; the next one is used too.
        memory: for messages and sums.

    Attributes:
        total: the block's total, once :meth:`advance` has said that it is there.
    """

    def __init__(
        self,
        cross: Communicator,
        wire: WireFormat,
        parts: Sequence[BlockPart],
        own: Array,
        step: int,
        tag: int,
        memory: ReusedMemory,
    ) -> None:
        self._cross, self._wire, self._parts, self._step, self._tag = cross, wire, parts, step, tag
        self._memory = memory
        self.total = self._floats(own.size)
        stream, mine = _stream(step, 1 + cross.rank), parts[cross.rank]
        self._messages = [self._encoded(own[part.place], part, stream) for part in parts]
        self._contributions = [
            self._messages[cross.rank] if n == cross.rank else self._room(mine) for n in self._nodes
        ]
        waits = cross.waits
        came = None if waits is None else Arrivals(waits)  # totals wait for others, and tell less
        self._arrived = self._begin(self._messages, self._contributions, came)
        self._steps = [self._add, self._take]

    @property
    def _nodes(self) -> range:
        return range(self._cross.size)

    def advance(self) -> bool:
        """Goes on as far as messages have come; whether the total is there."""
        while self._steps and self._arrived():
            self._steps.pop(0)()
        return not self._steps

    def _add(self) -> None:
        """The total of the own part, and its way to the others."""
        rank, mine = self._cross.rank, self._parts[self._cross.rank]
        rows = [self._floats(mine.place.stop - mine.place.start) for _ in self._nodes]
        for row, message in zip(rows, self._contributions, strict=True):
            self._decode(message, mine, row)
        total = self.total[mine.place]
        reduce_rows(rows, total)
        self._messages = [self._encoded(total, mine, _stream(self._step, _OF_TOTALS))] * self._cross.size
        self._totals = [self._messages[n] if n == rank else self._room(self._parts[n]) for n in self._nodes]
        self._tag += 1
        self._arrived = self._begin(self._messages, self._totals)

    def _take(self) -> None:
        """The totals of all parts."""
        for part, message in zip(self._parts, self._totals, strict=True):
            self._decode(message, part, self.total[part.place])

    def _begin(
        self, sent: Sequence[Array], received: Sequence[Array], came: Arrivals | None = None
    ) -> Callable[[], bool]:
        """Begins a message to each node and one from each; nothing where there is nothing to say."""
        others = [n for n in self._nodes if n != self._cross.rank]
        return self._cross.begin_messages(
            [(n, sent[n]) for n in others if sent[n].size],
            [(n, received[n]) for n in others if received[n].size],
            self._tag,
            came,
        )

    def _room(self, part: BlockPart) -> Array:
        return self._memory.empty(part.nbytes)

    def _floats(self, size: int) -> Array:
        return self._memory.empty(4 * size).view(np.float32)

    def _encoded(self, row: Array, part: BlockPart, stream: np.uint64) -> Array:
        from distopt.collectives.wire_kernels import encoder  # with compiled code, which takes time to load

        message = self._room(part)
        scales, values = self._wire.parts(message, part.scales)
        encoder(self._wire.name)(row, row.view(np.uint32), part.pieces, stream, scales, values)
        return message

    def _decode(self, message: Array, part: BlockPart, row: Array) -> None:
        from distopt.collectives.wire_kernels import decoder

        scales, values = self._wire.parts(message, part.scales)
        decoder(self._wire.name)(scales, values, part.pieces, row, row.view(np.uint32))
