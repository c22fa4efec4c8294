"""ShardReduce: each replica gets the sum of its own shard over all replicas, block after block.

On a node a replica writes what others own of its arrays into a staging buffer, waits for the others, and
sums its own shard over all rows. Between nodes, replicas of equal rank exchange their shards' partial sums.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from distopt.collectives.exchange import TAGS, MessageTrace
from distopt.collectives.inter_node_reduce import InterNodeReduce, subtotal
from distopt.collectives.link import (
    AHEAD,
    TYPICAL_BYTES,
    BlockSizes,
    Link,
    block_sizes,
    cheapest_rule,
    measured_link,
)
from distopt.collectives.node_rounds import load
from distopt.collectives.partition import PIECE, Partition, block_size, partition
from distopt.collectives.reused_memory import ReusedMemory
from distopt.collectives.shared import SharedScratch
from distopt.collectives.staging import StagingBuffer
from distopt.collectives.transfers import Members
from distopt.collectives.tree import reduce_rows, tree_pairs
from distopt.comm import Communicator, NodeCommunicator, SoloCommunicator, World
from distopt.settings import Settings
from distopt.typing import Array

__all__ = ["IN_FLIGHT", "ShardReduce", "gather_own"]

#: Blocks of a channel that may be on their way at once.
IN_FLIGHT = 16
_PROBE_BYTES = 64


class ShardReduce:
    """One replica's part in the sums; making it is collective.

    Args:
        world: the replicas.
        options: whether memory may be shared.

    Attributes:
        job: all replicas.
        node: those that share memory.
        cross: those of equal rank in other nodes.
        staging: where those of the node leave their arrays' parts.
        scratch: memory of the node for other things.
        block: the elements of a block at most.
        link: what messages between nodes cost; None on one node.
        block_memory: for blocks that travel in a wire format, taken by turns; one is used, others travel.
        spans: what this replica did when.
    """

    def __init__(self, world: World, options: Settings) -> None:
        self.job, self.spans = world.comm, world.spans
        self.node, self.cross = _topology(world, options)
        self.block = usual = block_size(self.node.size)
        self._sizes = BlockSizes(usual, usual, 1)
        self.link: Link | None = None
        self.block_memory = [ReusedMemory() for _ in range(AHEAD + 2)]
        self._inter_node: InterNodeReduce | None = None
        self._channel: Communicator | None = None
        self._channels = 0
        if self.cross.size > 1:
            self._members = self._everyone()
            self.link = measured_link(self.cross, self.job)
            self._sizes = block_sizes(usual, self.node.size, self._members, self.link)
            self.block = self._sizes.most
            longest = self._shard + 2 * PIECE  # a block is longer by one at most, and a shard by half of one
            self._inter_node = InterNodeReduce(
                self.cross, self._members, link=self.link, longest=longest, trace=self._trace(0)
            )
        self.staging = StagingBuffer(self.node, self.block)
        self.scratch = SharedScratch(self.node)

    @property
    def _shard(self) -> int:
        """The elements of a shard of the largest block."""
        return self.block // self.node.size

    def describe(self) -> str:
        """How nodes exchange the largest blocks; empty on one node."""
        if self.link is None:
            return ""
        nbytes = TYPICAL_BYTES * self._shard
        rule = cheapest_rule(self._members, nbytes, self.link)
        takes = load(self._members, rule)
        return (
            f"between {self.cross.size} nodes: {rule}, {takes.messages} messages in {takes.rounds} rounds "
            f"for {nbytes / 1e6:.1f} MB of each replica; measured {self.link}"
        )

    def channel(self) -> InterNodeReduce | None:
        """A further exchange between nodes, whose blocks each replica begins at its own time; collective.

        Returns:
            None on one node, and where replicas have to meet for each message.
        """
        if self.link is None:
            return None
        first = self._channels * IN_FLIGHT % TAGS
        if first == 0:
            self._channel = self.cross.channel()
        self._channels += 1
        if self._channel is None:
            return None
        tags = range(first, first + IN_FLIGHT)
        trace = self._trace(self._channels)
        return InterNodeReduce(self._channel, self._members, link=self.link, tags=tags, trace=trace)

    def _trace(self, channel: int) -> MessageTrace:
        return MessageTrace(self.spans, f"{self.node.rank}.{channel}", self.cross.rank)

    def row_bytes(self, itemsize: int) -> int:
        """The bytes that one replica's part of a block takes at most."""
        return (self.block + PIECE) * itemsize

    def partition(self, sizes: tuple[int, ...], itemsize: int) -> Partition:
        """Who sums what of arrays of so many elements, each of so many bytes."""
        return partition(sizes, self.node.size, self.node.rank, itemsize, self._sizes.of(sum(sizes)))

    @property
    def sends_ahead(self) -> bool:
        """Whether a first block may be sent before all nodes are known to be in the same call."""
        return self._inter_node is not None and self.cross.asynchronous

    def stage_ahead(self, partition: Partition, starts: Array, itemsize: int) -> None:
        """Stages the first block before the node's replicas meet in a header; arguments as below."""
        if self.node.size > 1:
            self.staging.write(partition, 0, starts, itemsize)

    def send_ahead(self, partition: Partition, arrays: Sequence[Any], dtype: np.dtype[Any]) -> None:
        """Sends it before the nodes have met in that header."""
        assert self._inter_node is not None
        rows = (
            self._parts(self.staging.rows(dtype), partition, 0, arrays)
            if self.node.size > 1
            else [gather_own(partition, 0, arrays)]
        )
        self._inter_node.send_ahead(rows)

    def recall(self) -> None:
        """Takes back what some replicas have sent ahead; collective."""
        if self._inter_node is not None:
            self._inter_node.recall()

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
        """The sums of this replica's shards of some blocks, in order; all replicas go through them together.

        Args:
            partition: who sums what.
            arrays: this replica's, contiguous; they are not changed. Those without elements in the partition
                may be anything.
            starts: their addresses.
            dtype: theirs.
            blocks: which of them.
            room: gives the memory for a block's sum; what comes from other nodes has its own all the same.
            ahead: whether the first of them has been sent ahead.

        Yields:
            1-D arrays, each good until the next one is asked for.
        """
        rows = self._rows(partition, arrays, starts, dtype, blocks[1:] if ahead else blocks)
        if self._inter_node is not None:
            yield from self._inter_node.totals(rows, ahead)
            return
        pairs = tree_pairs(self.node.size)
        for block, parts in zip(blocks, rows, strict=True):
            out = np.empty_like(parts[0]) if room is None else room(block)
            yield subtotal(dict(enumerate(parts)), pairs, 0, out)

    def node_sums(
        self, partition: Partition, arrays: Sequence[Any], starts: Array, dtype: np.dtype[Any], blocks: range
    ) -> Iterator[Array]:
        """What this node has of this replica's shards of some blocks, in order; arguments as above.

        Where the tree leaves a node several partial sums, they are joined, also in tree order.

        Yields:
            1-D arrays, each good until the next one is asked for; not to be written to.
        """
        assert self._inter_node is not None
        for rows in self._rows(partition, arrays, starts, dtype, blocks):
            own = self._inter_node.subtotals(rows)
            if len(own) > 1:
                reduce_rows(own, own[0])
            yield own[0]

    def _rows(
        self, partition: Partition, arrays: Sequence[Any], starts: Array, dtype: np.dtype[Any], blocks: range
    ) -> Iterator[list[Array]]:
        """For each block the node's parts of the own shard, by rank, until the next is asked for."""
        if self.node.size == 1:
            for block in blocks:
                yield [gather_own(partition, block, arrays)]
            return
        if len(blocks) > 0:
            self.staging.begin(partition, blocks[0], starts, dtype.itemsize)
        for block in blocks:
            half = self.staging.rows(dtype)
            if block + 1 < blocks.stop:
                self.staging.write(partition, block + 1, starts, dtype.itemsize)
            yield self._parts(half, partition, block, arrays)
            if block + 1 < blocks.stop:
                self.node.barrier()

    def _parts(self, half: Array, partition: Partition, block: int, arrays: Sequence[Any]) -> list[Array]:
        """The node's parts of the own shard of a block that has been staged."""
        rows = list(half[:, partition.shard(block)])
        rows[self.node.rank] = gather_own(partition, block, arrays, rows[self.node.rank])
        return rows

    def _everyone(self) -> Members:
        """For each node, in the order of ``cross``, the numbers of its replicas."""
        ranks = np.concatenate(self.node.all_gather(np.array([self.job.rank], np.int64)))
        return tuple(tuple(int(r) for r in row) for row in self.cross.all_gather(ranks))


def gather_own(partition: Partition, block: int, arrays: Sequence[Any], out: Array | None = None) -> Array:
    """This replica's own part of a block: where it lies, if that is in one array, else ``out``."""
    own = partition.elements(partition.own_in(block))
    parts: list[Array] = [arrays[number].reshape(-1)[part] for number, part in own]
    if len(parts) == 1:
        return parts[0]
    return np.concatenate(parts, out=out) if parts or out is None else out


def _topology(world: World, options: Settings) -> tuple[NodeCommunicator, Communicator]:
    """The replicas that share memory, and those of equal rank in other nodes."""
    job = world.comm
    if job.size == 1 or options.memory == "private":
        return SoloCommunicator(), job
    probe = world.node.shared_block(_PROBE_BYTES) if world.node.size > 1 else None
    everyone = all(flag == b"1" for flag in job.gather_bytes(b"1" if probe is not None else b"0"))
    if not everyone:
        if options.memory == "shared":
            raise MemoryError("MPIStrategy(memory='shared'): the replicas of this job cannot share memory")
        return SoloCommunicator(), job
    return world.node, world.cross
