"""QuantizedReduce: the sums of a ShardReduce, if what goes between nodes has a wire format."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from distopt.collectives.link import AHEAD
from distopt.collectives.partition import Partition
from distopt.collectives.quantized_exchange import QuantizedExchange, block_parts
from distopt.collectives.shard_reduce import ShardReduce
from distopt.collectives.wire_formats import EXACT, WIRE_FORMATS, WireFormat
from distopt.typing import Array

__all__ = ["QuantizedReduce", "Sums", "sums_by"]

_FLOAT32 = np.dtype(np.float32)
#: Tags of an exchange, and exchanges that have tags of their own.
_ROUNDS, _TAGS = 2, 64


class QuantizedReduce:
    """One replica's part in such sums. Only float32 arrays are rounded; others are summed exactly.

    Args:
        reduce: sums on the node, and between nodes what is not rounded; over at least two nodes.
        wire: the format.
        step: the number of the step, which random numbers depend on.
    """

    def __init__(self, reduce: ShardReduce, wire: WireFormat, step: int) -> None:
        self._reduce, self._wire, self._step = reduce, wire, step

    def describe(self) -> str:
        """What travels, and how."""
        nodes = self._reduce.cross.size
        others = f"{nodes - 1} message{'s' if nodes > 2 else ''}"
        return (
            f"between {nodes} nodes as {self._wire.name}: float32 gradients, each node's sum rounded once, "
            f"the total once; {others} in each of 2 rounds"
        )

    def totals(
        self,
        partition: Partition,
        arrays: Sequence[Any],
        starts: Array,
        dtype: np.dtype[Any],
        blocks: range,
        room: Callable[[int], Array] | None = None,
        ahead: bool = False,
    ) -> Iterator[Array]:
        """See ShardReduce; nothing is sent ahead of a header."""
        if dtype != _FLOAT32:
            yield from self._reduce.totals(partition, arrays, starts, dtype, blocks, room, ahead)
            return
        travelling: deque[Callable[[], Array]] = deque()
        sums = self._reduce.node_sums(partition, arrays, starts, dtype, blocks)
        for block, own in zip(blocks, sums, strict=True):
            travelling.append(self._begin(partition, block, own))
            if len(travelling) > AHEAD:
                yield travelling.popleft()()
        while travelling:
            yield travelling.popleft()()

    def _begin(self, partition: Partition, block: int, own: Array) -> Callable[[], Array]:
        """Begins a block's exchange; what is returned waits for its total."""
        cross = self._reduce.cross
        parts, tag = block_parts(partition, block, cross.size, self._wire), block % _TAGS * _ROUNDS
        memory = self._reduce.block_memory[block % len(self._reduce.block_memory)]
        memory.begin()
        exchange = QuantizedExchange(cross, self._wire, parts, own, self._step, tag, memory)
        wait = cross.track(exchange.advance)

        def total() -> Array:
            wait()
            return exchange.total

        return total


#: What makes sums of shards.
Sums = ShardReduce | QuantizedReduce


def sums_by(reduce: ShardReduce, wire: str, step: int) -> Sums:
    """What sums shards if float32 numbers travel in a format; on one node nothing travels.

    Args:
        reduce: the replicas.
        wire: the format's name.
        step: the number of the step.
    """
    if wire == EXACT or reduce.cross.size == 1:
        return reduce
    return QuantizedReduce(reduce, WIRE_FORMATS[wire], step)
