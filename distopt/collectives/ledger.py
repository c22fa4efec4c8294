"""Ledger: records when each replica arrived at each collective call, and how it spent its time before.

It is always on. A replica writes a row to the node's shared memory when it arrives at a header, before it
waits for the others. So any process of the node can read the rows of all replicas without a message. Rows of
other nodes arrive with their headers. The offset between two nodes' clocks follows from the headers: no
replica leaves a header before all have arrived, which gives a lower and an upper bound.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from distopt.collectives.ledger_layout import (
    CLOCK_ITEMS,
    HEAD_BYTES,
    MAGIC,
    MINE_ITEMS,
    PHASES,
    ROW_FIELDS,
    ROW_ITEMS,
    TOTAL_FIELDS,
    TOTAL_ITEMS,
    Clock,
    Mine,
    Phase,
    Row,
    ring_calls,
)
from distopt.comm import PeerWaits, World
from distopt.comm.memory import thread_block
from distopt.typing import Array

__all__ = ["STAMP_BYTES", "Ledger"]

#: Bytes of a row, which travels with a header.
STAMP_BYTES = ROW_ITEMS * 8
#: How many exchanges compare the clocks at the start.
_COMPARISONS = 8
#: A bound of a clock's offset that is not known yet, in nanoseconds.
_UNKNOWN = 1 << 62


class Ledger:
    """The ledger of a job, as one replica reads and writes it. Creating it is collective.

    Args:
        world: the communicators of the job.
        mine: this replica's state, ``int64[MINE_ITEMS]``, zero-filled.

    Attributes:
        arrive, settle: compiled functions, called before and after the exchange of a header.
        account: a compiled function, called when the replica's phase changes.
        address: the address of ``mine``, the first argument of these functions.
        nodes: the node number of each replica, ``[replicas]``.
        stamped: whether rows travel with headers, because some replicas are on other nodes.
    """

    def __init__(self, world: World, mine: Array) -> None:
        from distopt.collectives.pointers import account, arrive, settle  # takes time to load

        self.arrive, self.settle, self.account = arrive, settle, account
        self._thread = threading.get_ident()
        self._mine = mine
        job, local = world.comm, world.local
        self.replicas, self.rank = job.size, job.rank
        self.virtual = local.size > 1
        self.length = ring_calls(self.replicas)
        totals = HEAD_BYTES
        ring = totals + self.replicas * TOTAL_ITEMS * 8
        nbytes = ring + self.length * self.replicas * STAMP_BYTES
        # Always backed by a file, so that the launcher can read it.
        shared = world.node.shared_block(nbytes, True) if world.node.size > 1 else None
        alone = shared is None
        shared = shared or thread_block(nbytes, True)
        self._block = shared.bytes
        self._memory = shared  # keeps the block alive
        members = [self.rank]
        if not alone:
            members = [int(rank[0]) for rank in world.node.all_gather(np.array([self.rank], np.int64))]
        self.here: Sequence[int] = members
        self._totals = self._block[totals:ring].view(np.int64).reshape(self.replicas, TOTAL_ITEMS)
        self._ring = self._block[ring:].view(np.int64).reshape(self.length, self.replicas, ROW_ITEMS)
        self._clocks = np.zeros((self.replicas, CLOCK_ITEMS), np.int64)
        self._clocks[:, Clock.LOW], self._clocks[:, Clock.HIGH] = -_UNKNOWN, _UNKNOWN
        self._clocks[members] = (1, 0, 0, 0)
        self.stamped = world.node.size < self.replicas
        self.nodes = self._nodes(world)
        if self.stamped and not self.virtual:
            self._compare_clocks(world)
            numbers, wire = mine[Mine.PEER : Mine.APART], mine[Mine.OWN + Phase.WIRE :][:1]
            world.cross.waits = PeerWaits(numbers, wire, np.arange(world.cross.size))
            # In ``comm``, replicas send each other messages if memory is not shared.
            world.comm.waits = PeerWaits(numbers, wire, self.nodes)
        elif self.stamped:
            self._clocks[:, 1:] = 0
        first = self.rank == min(members)
        # Replicas of one process use a virtual time with a common base, see ``ledger_rows.arrive``.
        base = int(job.broadcast(np.array([time.monotonic_ns()]))[0]) if self.virtual else 0
        self._begin(first, base)
        self.address: int = mine.ctypes.data
        if first:
            self._write_head(members)

    def _nodes(self, world: World) -> Array:
        """The number of each replica's node; collective."""
        if not self.stamped:
            return np.zeros(self.replicas, np.int64)
        return np.concatenate(world.comm.all_gather(np.array([world.cross.rank])))

    def _begin(self, first: bool, base: int) -> None:
        """Initializes the replica's state.

        Args:
            first: whether it is the first replica of its node, which writes the totals.
            base: the base of the virtual time, for replicas of one process.
        """
        mine, now = self._mine, time.monotonic_ns()
        mine[Mine.RING], mine[Mine.CLOCKS] = self._ring.ctypes.data, self._clocks.ctypes.data
        mine[Mine.TOTALS] = self._totals.ctypes.data if first and self.replicas > 1 else 0
        mine[Mine.REPLICAS], mine[Mine.LENGTH], mine[Mine.RANK] = self.replicas, self.length, self.rank
        mine[Mine.VIRTUAL] = self.virtual
        mine[Mine.MARK] = mine[Mine.BEGUN] = mine[Mine.WIDENED] = now
        mine[Mine.BASE] = base
        self.started = now

    def _compare_clocks(self, world: World) -> None:
        """Bounds the offsets of the other clocks by some exchanges; collective."""
        came = met = 0
        clocks = self._clocks
        for _ in range(_COMPARISONS):
            before, came = (came, met), time.monotonic_ns()
            row = np.zeros(8, np.int64)
            row[:2] = came, met
            rows = np.frombuffer(b"".join(world.comm.exchange(row.tobytes())), np.int64).reshape(-1, 8)
            met = time.monotonic_ns()
            clocks[:, Clock.LOW] = np.maximum(clocks[:, Clock.LOW], rows[:, 0] - met)
            if before[0]:
                clocks[:, Clock.HIGH] = np.minimum(clocks[:, Clock.HIGH], rows[:, 1] - before[0])
        clocks[list(self.here), 1:] = 0

    def _write_head(self, members: Sequence[int]) -> None:
        """Writes the layout as JSON, for readers of the file."""
        text = {
            "version": 1,
            "replicas": self.replicas,
            "ring": self.length,
            "row": list(ROW_FIELDS),
            "row_bytes": STAMP_BYTES,
            "ring_at": HEAD_BYTES + self._totals.nbytes,
            "total": list(TOTAL_FIELDS),
            "total_bytes": TOTAL_ITEMS * 8,
            "totals_at": HEAD_BYTES,
            "phases": list(PHASES),
            "here": list(members)[:64],
            "pid": os.getpid(),
            "virtual": self.virtual,
            "started_monotonic_ns": self.started,
            "started_time_ns": time.time_ns(),
        }
        head = MAGIC + json.dumps(text).encode()
        self._block[: len(head)] = np.frombuffer(head, np.uint8)

    # -- writing, apart from headers
    def enter(self, phase: Phase) -> Phase:
        """Starts another phase of this replica. Ignored in other threads than the one that made the ledger.

        Returns:
            the previous phase.
        """
        before = Phase(int(self._mine[Mine.PHASE]))
        if threading.get_ident() == self._thread:
            self.account(self.address, int(phase))
        return before

    @contextmanager
    def node_call(self) -> Iterator[None]:
        """A context for the header of a call within a node: its time counts as waiting, and as ``APART``."""
        mine, waiting = self._mine, Mine.OWN + Phase.WAITING
        if threading.get_ident() != self._thread:
            yield
            return
        # The virtual time of replicas in one process does not cover waits within a node.
        before, waited = self.enter(Phase.IN_CALL if self.virtual else Phase.WAITING), int(mine[waiting])
        try:
            yield
        finally:
            self.enter(before)
            mine[Mine.APART] += mine[waiting] - waited
            mine[Mine.INSIDE] = 1

    # -- reading
    def stamp(self, call: int) -> bytes:
        """This replica's row of a call, to be sent with its header."""
        row: bytes = self._ring[call % self.length, self.rank].tobytes()
        return row

    def totals(self) -> Array:
        """The ``Total`` numbers of each replica: ``[replicas, TOTAL_ITEMS]`` int64."""
        return self._totals.copy()

    def spent(self) -> Array:
        """Nanoseconds of each replica in each phase, as of its last call: ``[replicas, PHASES]`` int64."""
        newest = self._ring[:, :, Row.CALL].argmax(0)
        found: Array = self._ring[newest, np.arange(self.replicas), Row.OWN : Row.OWN + len(PHASES)]
        return found

    def waited_for(self) -> Array:
        """Each replica's ``Row.PEER``, ``PEER_WAITED`` and ``PEERS_WAITED``: ``[replicas, 3]`` int64."""
        newest = self._ring[:, :, Row.CALL].argmax(0)
        found: Array = self._ring[newest, np.arange(self.replicas), Row.PEER : Row.APART]
        return found

    def rows(self) -> Array:
        """The last calls of which all rows are known, in order: ``[calls, replicas, ROW_ITEMS]`` int64."""
        ring = self._ring.copy()
        numbers = ring[:, :, Row.CALL]
        whole = (numbers[:, 0] > 0) & (numbers == numbers[:, :1]).all(1)
        ring = ring[whole]
        in_order: Array = ring[np.argsort(ring[:, 0, Row.CALL], kind="stable")]
        return in_order

    def clock_error(self) -> float:
        """The largest error of other nodes' times, in seconds; 0 on one node, infinity if unknown."""
        wide = self._clocks[:, Clock.HIGH] - self._clocks[:, Clock.LOW]
        most = int(wide.max())
        return 0.0 if most == 0 else float("inf") if most > 1 << 60 else most / 2e9

    def clock_ahead(self, replica: int) -> int:
        """The estimated offset of a replica's clock from this replica's, in nanoseconds."""
        low, high = (int(bound) for bound in self._clocks[replica, [Clock.LOW, Clock.HIGH]])
        return (low + high) // 2 if high < _UNKNOWN >> 1 else low

    def snapshot(self) -> bytes:
        """A copy of the whole memory."""
        everything: bytes = self._block.tobytes()
        return everything


def new_state() -> tuple[Array, Any]:
    """A replica's state before its first call, and a memoryview of its ``ENDED`` field."""
    mine = np.zeros(MINE_ITEMS, np.int64)
    return mine, mine.data[Mine.ENDED : Mine.ENDED + 1]
