"""OverlappedSums: sums over all replicas that are begun block by block while arrays are still being computed.

Nobody waits before the end: whatever can go on, goes on whenever somebody looks: the caller now and then, and
a thread that sleeps most of the time. Between nodes messages travel meanwhile. On a node replicas leave their
parts for each other in a ring of staging buffers.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from distopt.collectives.arrays import address_of
from distopt.collectives.exchange import Exchange
from distopt.collectives.inter_node_reduce import InterNodeReduce
from distopt.collectives.partition import Partition
from distopt.collectives.progress_thread import ProgressThread
from distopt.collectives.shard_reduce import IN_FLIGHT, ShardReduce, gather_own
from distopt.collectives.shared import shared_memory
from distopt.typing import Array

__all__ = ["OverlappedSums"]

#: Blocks that the ring holds.
_SLOTS = 4
#: Of the blocks on their way so many of the first are looked at; messages come in about their order.
_LOOKED_AT = 3
#: Of the counters of a replica, one cache line: blocks that it has staged, and summed.
_STAGED, _SUMMED, _LINE = 0, 1, 8


class _Memory:
    """One block's memory, the same in each pass: new memory costs the kernel as much time as messages do."""

    def __init__(self) -> None:
        self._arrays: list[Array] = []
        self._given = 0

    def begin_pass(self) -> None:
        """All of it is free."""
        self._given = 0

    def empty(self, shape: Any, dtype: np.dtype[Any]) -> Array:
        """As ``np.empty``; it is asked for the same arrays in each pass."""
        if self._given == len(self._arrays):
            self._arrays.append(np.empty(shape, dtype))
        self._given += 1
        return self._arrays[self._given - 1]


class OverlappedSums:
    """One replica's part, pass after pass; making it is collective.

    In each pass all replicas begin the same blocks in the same order, each at its own time.

    Args:
        reduce: the replicas.
        channel: the exchange between nodes, used by nobody else at the same time.
        partitions: who sums what, each with the dtype of its arrays.
        order: the order of the blocks: which partition, and the block's number.

    Attributes:
        arrays: this replica's, by the number that the partitions use, C-contiguous; the caller puts them
            here, and leaves them as they are until the pass is over; otherwise their sums mean nothing.
        starts: their addresses.
    """

    def __init__(
        self,
        reduce: ShardReduce,
        channel: InterNodeReduce,
        partitions: Sequence[tuple[Partition, np.dtype[Any]]],
        order: Sequence[tuple[int, int]],
        arrays: int,
    ) -> None:
        self._cross, self._node, self._channel = reduce.cross, reduce.node, channel
        self._partitions, self._order = partitions, order
        self.arrays: list[Any] = [None] * arrays
        self.starts = np.zeros(arrays, np.int64)
        self._row = reduce.row_bytes(max(dtype.itemsize for _, dtype in partitions))
        node = self._node
        if node.size > 1:
            self._ring = shared_memory(node, _SLOTS * node.size * self._row)
            counters = shared_memory(node, node.size * _LINE * 8)
            self._counters = counters.view(np.int64).reshape(node.size, _LINE)
        self._memory = [_Memory() for _ in order]
        self._lock = threading.Lock()
        self._thread = ProgressThread(self.advance)
        #: Blocks of the passes before.
        self._before = 0
        self._begin_pass()

    def _begin_pass(self) -> None:
        #: How many of the first blocks may be staged; of those, how many have their arrays; are staged.
        self._allowed = self._given = self._staged = 0
        self._exchanges: list[Exchange] = []
        self._done: list[bool] = []
        self._end: Callable[[], None] | None = None

    @property
    def begun(self) -> int:
        """How many blocks this replica has begun in this pass."""
        return self._staged

    def allow(self, count: int) -> None:
        """The arrays of the first ``count`` blocks are there: they may go on their way."""
        if not self._allow(count):
            self._thread.start()

    def _allow(self, count: int) -> bool:
        with self._lock:
            self._allowed = self._given = count
        if self._end is None:
            self._end = self._cross.track(self.advance)
        return self.advance()

    def advance(self) -> bool:
        """Goes on as far as it can without waiting; whether all blocks that may be summed are summed."""
        with self._lock:
            return self._look()

    def _look(self) -> bool:
        while self._staged < self._allowed and self._stage(self._staged):
            self._staged += 1
        while len(self._exchanges) < self._staged and self._may_begin(len(self._exchanges)):
            self._begin(len(self._exchanges))
        travelling = [i for i, done in enumerate(self._done) if not done]
        for i in travelling[:_LOOKED_AT]:
            self._done[i] = self._exchanges[i].advance()
        return sum(self._done) == self._allowed

    def totals(self) -> Iterator[tuple[int, int, Array]]:
        """Ends the pass: all blocks with this replica's shards of their sums, in order; all arrays are there.

        Yields:
            which partition, the block's number, and the sum, 1-D.
        """
        self._thread.pause()
        self._allow(len(self._order))
        for i, (which, block) in enumerate(self._order):
            if not (self.advance() or self._is_done(i)):  # waits look after all blocks, see allow()
                self._cross.track(lambda i=i: self._is_done(i))()  # type: ignore[misc]
            yield which, block, self._exchanges[i].total
        self._end_pass()

    def drain(self, count: int) -> None:
        """Ends the pass without sums: all replicas complete the first blocks, since others wait for them.

        Args:
            count: how many, the most that any replica has begun.
        """
        self._thread.pause()
        self._allowed = count
        self._cross.track(self.advance)()
        self._end_pass()

    def _end_pass(self) -> None:
        if self._end is not None:
            self._end()
        self._before += self._staged
        self.arrays[:] = [None] * len(self.arrays)
        self._begin_pass()

    def _is_done(self, i: int) -> bool:
        return i < len(self._done) and self._done[i]

    # -- one block
    def _stage(self, i: int) -> bool:
        """Leaves for the others of the node what they sum, if there is room."""
        if self._node.size == 1:
            return True
        number = self._before + i
        if self._counters[:, _SUMMED].min() <= number - _SLOTS:
            return False
        from distopt.collectives.pointers import send  # with compiled code, which takes time to load

        which, block = self._order[i]
        pieces = self._partitions[which][0].others_in(block)
        if i < self._given:
            slot = number % _SLOTS * self._node.size + self._node.rank
            send(address_of(self._ring) + slot * self._row, pieces, self.starts)
        self._counters[self._node.rank, _STAGED] = number + 1
        return True

    def _may_begin(self, i: int) -> bool:
        """Whether all parts of the node are there, and a tag is free."""
        if i >= IN_FLIGHT and not self._done[i - IN_FLIGHT]:
            return False
        return self._node.size == 1 or bool(self._counters[:, _STAGED].min() > self._before + i)

    def _begin(self, i: int) -> None:
        """Sums the node's parts of the own shard, and begins the exchange."""
        which, block = self._order[i]
        partition, dtype = self._partitions[which]
        shard = partition.shard(block)
        self._memory[i].begin_pass()
        own = self._memory[i].empty(shard.stop - shard.start, dtype)
        if i < self._given:
            own = gather_own(partition, block, self.arrays, own)
        else:
            own[:] = 0
        rows = [own]
        if self._node.size > 1:
            from distopt.collectives.pointers import memory_fence

            memory_fence()
            slots = self._ring.reshape(_SLOTS, self._node.size, self._row)[(self._before + i) % _SLOTS]
            rows = [slot.view(dtype)[shard] for slot in slots]
            rows[self._node.rank] = own
        self._exchanges.append(self._channel.begin(rows, self._memory[i].empty))
        self._done.append(False)
        if self._node.size > 1:  # the sums above are copies
            self._counters[self._node.rank, _SUMMED] = self._before + i + 1
