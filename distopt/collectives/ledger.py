"""Ledger: for each collective call which replica came when, and what it spent its time in before.

It is always on. A replica writes a row when it comes to a header, before the others are met; so all that is
known of all replicas lies in memory that the node shares, and whoever reads it asks nobody. Rows of other
nodes come with their headers. How far two clocks are apart is known from meetings: nobody leaves one before
the others have come, which bounds it from both sides.
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

#: A row, as it travels with a header.
STAMP_BYTES = ROW_ITEMS * 8
#: Meetings by which clocks are compared at the start.
_MEETINGS = 8
_UNKNOWN = 1 << 62


class Ledger:
    """One replica's part in it; making it is collective.

    Args:
        world: the replicas.
        mine: this replica's state, ``int64[MINE_ITEMS]``, zero-filled.

    Attributes:
        arrive, settle: compiled functions, called before and after the replicas meet at a header.
        account: a compiled function, called when another phase begins.
        address: of the replica's state, which these take.
        nodes: the number of each replica's node.
        stamped: whether rows travel with headers, since some replicas share no memory with this one.
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
        # Always a file, which the launcher can read.
        shared = world.node.shared_block(nbytes, True) if world.node.size > 1 else None
        alone = shared is None
        shared = shared or thread_block(nbytes, True)
        self._block = shared.bytes
        self._kept = shared
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
            # Where no memory is shared messages go between any two replicas.
            world.comm.waits = PeerWaits(numbers, wire, self.nodes)
        elif self.stamped:
            self._clocks[:, 1:] = 0
        first = self.rank == min(members)
        # Replicas of a process have a time of their own, which is the same on all.
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
        """The replica's state at the start, for replicas of one process with the base of their time."""
        mine, now = self._mine, time.monotonic_ns()
        mine[Mine.RING], mine[Mine.CLOCKS] = self._ring.ctypes.data, self._clocks.ctypes.data
        mine[Mine.TOTALS] = self._totals.ctypes.data if first and self.replicas > 1 else 0
        mine[Mine.REPLICAS], mine[Mine.LENGTH], mine[Mine.RANK] = self.replicas, self.length, self.rank
        mine[Mine.VIRTUAL] = self.virtual
        mine[Mine.MARK] = mine[Mine.BEGUN] = mine[Mine.WIDENED] = now
        mine[Mine.BASE] = base
        self.started = now

    def _compare_clocks(self, world: World) -> None:
        """Bounds of the other clocks, from some meetings; collective."""
        came = met = 0
        clocks = self._clocks
        for _ in range(_MEETINGS):
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
        """What a reader has to know, in JSON."""
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

    # -- what is told it, beside headers
    def enter(self, phase: Phase) -> Phase:
        """This replica spends its time in another phase from now on, if it is its own thread that asks.

        Returns:
            the phase before.
        """
        before = Phase(int(self._mine[Mine.PHASE]))
        if threading.get_ident() == self._thread:
            self.account(self.address, int(phase))
        return before

    @contextmanager
    def meeting_apart(self) -> Iterator[None]:
        """This replica meets others in a call that not all make, whose end is noted as of any."""
        mine, waiting = self._mine, Mine.OWN + Phase.WAITING
        if threading.get_ident() != self._thread:
            yield
            return
        # Of replicas that take turns nobody knows what they would wait for within a node.
        before, waited = self.enter(Phase.IN_CALL if self.virtual else Phase.WAITING), int(mine[waiting])
        try:
            yield
        finally:
            self.enter(before)
            mine[Mine.APART] += mine[waiting] - waited
            mine[Mine.INSIDE] = 1

    # -- what it tells
    def stamp(self, call: int) -> bytes:
        """This replica's row of a call, as it travels."""
        row: bytes = self._ring[call % self.length, self.rank].tobytes()
        return row

    def totals(self) -> Array:
        """How often each replica came last, and what that cost: ``[replicas, TOTAL_ITEMS]`` int64."""
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
        """The calls that are known of all replicas: ``[calls, replicas, ROW_ITEMS]`` int64, in order."""
        ring = self._ring.copy()
        numbers = ring[:, :, Row.CALL]
        whole = (numbers[:, 0] > 0) & (numbers == numbers[:, :1]).all(1)
        ring = ring[whole]
        in_order: Array = ring[np.argsort(ring[:, 0, Row.CALL], kind="stable")]
        return in_order

    def clock_error(self) -> float:
        """By how many seconds times of other nodes may be wrong; 0 on one node, infinity if unknown."""
        wide = self._clocks[:, Clock.HIGH] - self._clocks[:, Clock.LOW]
        most = int(wide.max())
        return 0.0 if most == 0 else float("inf") if most > 1 << 60 else most / 2e9

    def clock_ahead(self, replica: int) -> int:
        """By how many nanoseconds a replica's clock is ahead of the own one, as well as that is known."""
        low, high = (int(bound) for bound in self._clocks[replica, [Clock.LOW, Clock.HIGH]])
        return (low + high) // 2 if high < _UNKNOWN >> 1 else low

    def snapshot(self) -> bytes:
        """All of it, as it lies in memory."""
        everything: bytes = self._block.tobytes()
        return everything


def new_state() -> tuple[Array, Any]:
    """A replica's state before its first call, and the place in it where the end of a call is noted."""
    mine = np.zeros(MINE_ITEMS, np.int64)
    return mine, mine.data[Mine.ENDED : Mine.ENDED + 1]
