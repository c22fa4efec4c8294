"""StatusReporter: collects the status of all replicas for messages about a long wait.

A process reads the statuses of its own node from the status board. When a wait has become long, it asks the
processes of other nodes by message. On each node, the first process that waits answers for the whole node. A
node on which no process waits does not answer. Without long waits, no messages are sent.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Sequence
from typing import Any

from distopt.comm.status_board import ReplicaStatus, StatusBoard

__all__ = ["StatusReporter"]

_QUESTION, _ANSWER = 1, 2
#: One process's status in a message: number, call, step, seconds waited (-1: not, -2: stopped), place.
_FORMAT = struct.Struct("<qqqd232s")
#: How long to wait for answers, and the interval at which waiting processes check for messages.
_ANSWER_SECONDS, _POLL_SECONDS = 1.0, 0.01


class StatusReporter:
    """The statuses of all processes of a job, as one of them knows them.

    Args:
        mpi: the module ``mpi4py.MPI``.
        comm: an mpi4py communicator of the job that nothing else uses; None if all share one board.
        rank: the rank of this process.
        board: the status board of this node.
        members: the ranks of those processes, by row.
        size: the number of processes in the job.
        replicas: the number of replicas in each process.
        hosts: the host name of each process, by rank; needed with several nodes.
    """

    def __init__(
        self,
        mpi: Any,
        comm: Any,
        rank: int,
        board: StatusBoard,
        members: Sequence[int],
        size: int,
        replicas: int = 1,
        hosts: Sequence[str] = (),
    ) -> None:
        self._mpi, self._comm = mpi, comm
        self._rank, self._board, self._members, self._size = rank, board, members, size
        self._replicas, self._hosts = replicas, hosts or [""] * size
        self._elsewhere = frozenset(range(size)) - frozenset(members) if comm is not None else frozenset()
        self._far = sorted(self._elsewhere)
        self._heard: dict[int, ReplicaStatus] = {}
        self._sending: list[Any] = []
        self._looked = 0.0
        self._now = self._before = ReplicaStatus("", 0, 0, None)

    def write(self, place: str, call: int, step: int) -> None:
        """See StatusWriter."""
        self._board.write(place, call, step)
        # If a node does not answer, this is known: it has made the call before the current one.
        self._before, self._now = self._now, ReplicaStatus(place, call, step, None)

    def add_remark(self, remark: Callable[[], str]) -> None:
        """See StatusWriter."""
        self._board.add_remark(remark)

    # -- as a WaitObserver
    def wait_began(self) -> None:
        """See WaitObserver."""
        self._board.wait_began()

    def wait_ended(self) -> None:
        """See WaitObserver."""
        self._board.wait_ended()

    def poll(self) -> None:
        """See WaitObserver."""
        now = time.monotonic()
        if self._far and now - self._looked > _POLL_SECONDS:
            self._looked = now
            self._read_messages()

    def report(self, waited: float) -> str:
        """See WaitObserver."""
        known = self._ask()
        own = known[self._rank].waited or waited
        if any(status.waited is not None and status.waited > own for status in known.values()):
            return ""
        return self._text(own, known)

    def final_report(self, waited: float) -> str:
        """See WaitObserver."""
        return self._text(waited, self._ask())

    def _text(self, waited: float, known: dict[int, ReplicaStatus]) -> str:
        """A line that names the processes that have not arrived, then a line for each process."""
        late = [rank for rank in range(self._size) if rank not in known or known[rank].waited is None]
        whom = f"for {self._names(late)}" if late else "all for each other"
        lines = [f"distopt: waiting for {waited:.0f} s, {whom}"]
        for rank in range(self._size):
            lines.append(f"  {self._names([rank])}: {self._line(rank, known.get(rank))}")
        remark = self._board.remark()
        if remark:
            lines.append(f"  before that, {remark}")
        return "\n".join(lines)

    def _line(self, rank: int, status: ReplicaStatus | None) -> str:
        if rank == self._rank:
            return f"in {status} (this one)"
        if status is None:
            return self._silent(rank)
        if status.stopped:
            return f"is stopped (by SIGSTOP, or a debugger); last seen in {status}"
        if status.waited is None:
            return f"has not arrived; last seen in {status}"
        return f"waits for {status.waited:.0f} s in {status}"

    def _silent(self, rank: int) -> str:
        common = f"the last call that all made: {self._before}" if self._before.place else "it never reported"
        own, other = self._hosts[self._rank], self._hosts[rank]
        broken = "" if own == other else f", or the network between {own} and {other} is down"
        return f"has not arrived; its node does not answer, because no replica waits there{broken}; {common}"

    def _names(self, ranks: Sequence[int]) -> str:
        """The replicas of some processes, as ``replica 3`` or ``replicas 0, 2``."""
        each = self._replicas
        parts = [str(r) if each == 1 else f"{r * each}-{(r + 1) * each - 1}" for r in ranks]
        return f"replica{'s' if len(ranks) * each > 1 else ''} {', '.join(parts)}"

    # -- other nodes
    def _ask(self) -> dict[int, ReplicaStatus]:
        """The current statuses by rank, without processes of nodes that do not answer."""
        self._heard.clear()
        for rank in self._far:
            self._sending.append(self._comm.Isend(b"", rank, _QUESTION))
        end = time.monotonic() + _ANSWER_SECONDS
        while len(self._heard) < len(self._far) and time.monotonic() < end:
            self._read_messages()
            time.sleep(0.001)
        return {**dict(zip(self._members, self._board.read(), strict=True)), **self._heard}

    def _read_messages(self) -> None:
        message = self._mpi.Status()
        while self._comm.Iprobe(self._mpi.ANY_SOURCE, self._mpi.ANY_TAG, message):
            data = bytearray(_FORMAT.size)
            length = message.Get_count(self._mpi.BYTE)
            self._comm.Recv(data, message.source, message.tag)  # an error if it is longer
            if message.tag == _ANSWER and length == len(data):
                rank, call, step, waited, place = _FORMAT.unpack(data)
                text = place.rstrip(b"\0").decode(errors="replace")
                if rank in self._elsewhere:
                    seconds = waited if waited >= 0 else None
                    self._heard[rank] = ReplicaStatus(text, call, step, seconds, stopped=waited == -2)
            elif message.tag == _QUESTION:
                self._answer(message.source)
        self._sending = [request for request in self._sending if not request.Test()]

    def _answer(self, rank: int) -> None:
        """Sends one message per process of this node, if this process is the first that waits here."""
        statuses = self._board.read()
        waiting = [row for row, status in enumerate(statuses) if status.waited is not None]
        if waiting and waiting[0] != self._board.row:
            return
        for member, status in zip(self._members, statuses, strict=True):
            waited = (-2.0 if status.stopped else -1.0) if status.waited is None else status.waited
            data = _FORMAT.pack(member, status.call, status.step, waited, status.place.encode()[:232])
            self._sending.append(self._comm.Isend(data, rank, _ANSWER))
