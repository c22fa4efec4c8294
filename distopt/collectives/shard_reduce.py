"""ShardReduce: a reduce-scatter: each replica gets the sum of its shards over all replicas, block by block.

Within a node, a replica writes its values of the other replicas' shards to the staging buffer, waits for the
others, and sums its own shard over all rows of the buffer. Between nodes, the replicas of the same rank on
their nodes exchange the partial sums of their shards, which are the same.
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

#: The most blocks of a channel that may travel at the same time.
IN_FLIGHT = 16
#: Size of the memory that tests whether the replicas of a node can share memory.
_PROBE_BYTES = 64


class ShardReduce:
    """Sums shards, for one replica. Creating it is collective.

    Args:
        world: the communicators.
        options: the settings; ``memory`` says whether to share memory.

    Attributes:
        job: the communicator of all replicas.
        node: the communicator of the replicas that share memory.
        cross: the communicator of the replicas of the same rank on all nodes.
        staging: the staging buffer of the node.
        scratch: other shared memory of the node, for use within a call.
        block: the largest size of a block, in elements.
        link: the measured cost of messages between nodes; None on one node.
        block_memory: memory for blocks in a wire format, used in rotation: while one is used, others travel.
        spans: records spans for the trace.
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
            self._members = self._gather_members()
            self.link = measured_link(self.cross, self.job)
            self._sizes = block_sizes(usual, self.node.size, self._members, self.link)
            self.block = self._sizes.most
            longest = self._shard + 2 * PIECE  # pieces are not cut: up to one more per block, half per shard
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
        """Text for ``optimizer.describe()``: how nodes exchange the largest blocks; empty on one node."""
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
        """Creates a further exchange between nodes, whose blocks start independently; collective.

        Returns:
            None on one node, and if the communicator has no further channel (see ``Communicator.channel``).
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
        """The size of a row, which holds one replica's part of the largest block, in bytes."""
        return (self.block + PIECE) * itemsize

    def partition(self, sizes: tuple[int, ...], itemsize: int) -> Partition:
        """The blocks and shards of arrays with these numbers of elements."""
        return partition(sizes, self.node.size, self.node.rank, itemsize, self._sizes.of(sum(sizes)))

    @property
    def sends_ahead(self) -> bool:
        """Whether :meth:`send_ahead` can be used: with several nodes and asynchronous messages."""
        return self._inter_node is not None and self.cross.asynchronous

    def stage_ahead(self, partition: Partition, starts: Array, itemsize: int) -> None:
        """Writes the first block to the staging buffer before the header; arguments as for :meth:`totals`."""
        if self.node.size > 1:
            self.staging.write(partition, 0, starts, itemsize)

    def send_ahead(self, partition: Partition, arrays: Sequence[Any], dtype: np.dtype[Any]) -> None:
        """Sends the first block to other nodes while the headers travel, once this node has staged it."""
        assert self._inter_node is not None
        rows = (
            self._parts(self.staging.rows(dtype), partition, 0, arrays)
            if self.node.size > 1
            else [gather_own(partition, 0, arrays)]
        )
        self._inter_node.send_ahead(rows)

    def recall(self) -> None:
        """Cancels the blocks that some replicas have sent ahead; collective."""
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
        """Sums this replica's shards of some blocks, in order; collective.

        Args:
            partition: the blocks and shards.
            arrays: this replica's arrays, contiguous; read only. An array without elements in the partition
                is ignored.
            starts: the addresses of the arrays, ``[arrays]`` int64.
            dtype: the dtype of the arrays.
            blocks: the numbers of the blocks.
            room: returns the output memory for a block's sum; ignored with several nodes.
            ahead: whether the first block was sent ahead.

        Yields:
            1-D arrays: the sum of each shard, valid until the next one is requested.
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
        """Like :meth:`totals`, but sums over the replicas of this node only; with several nodes.

        If the tree over all replicas gives a node several partial sums, they are added in tree order too.

        Yields:
            1-D arrays, read-only, each valid until the next one is requested.
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
        """For each block, the values of this replica's shard from each replica of the node, by rank."""
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
        """For a staged block, the values of this replica's shard from each replica of the node, by rank."""
        rows = list(half[:, partition.shard(block)])
        rows[self.node.rank] = gather_own(partition, block, arrays, rows[self.node.rank])
        return rows

    def _gather_members(self) -> Members:
        """For each node, in the order of ``cross``, the numbers of its replicas; collective."""
        ranks = np.concatenate(self.node.all_gather(np.array([self.job.rank], np.int64)))
        return tuple(tuple(int(r) for r in row) for row in self.cross.all_gather(ranks))


def gather_own(partition: Partition, block: int, arrays: Sequence[Any], out: Array | None = None) -> Array:
    """This replica's values of its own shard of a block: a view if they are in one array, else a copy.

    The copy is written to ``out``, if that is given.
    """
    own = partition.elements(partition.own_in(block))
    parts: list[Array] = [arrays[number].reshape(-1)[part] for number, part in own]
    if len(parts) == 1:
        return parts[0]
    return np.concatenate(parts, out=out) if parts or out is None else out


def _topology(world: World, options: Settings) -> tuple[NodeCommunicator, Communicator]:
    """The communicators ``node`` and ``cross``; without shared memory, each replica is a node; collective."""
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
