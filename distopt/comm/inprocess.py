"""Communicators for replicas that are threads of one process, or of each process of a job."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from distopt.comm.communicator import Communicator, NodeCommunicator
from distopt.comm.local import LocalGroup
from distopt.comm.memory import SharedBlock, thread_block
from distopt.comm.node_width import node_width
from distopt.comm.peer_waits import Arrivals
from distopt.comm.solo import SoloCommunicator, solo_world
from distopt.comm.turn_scheduler import TurnScheduler
from distopt.comm.world import StatusWriter, World
from distopt.errors import ReplicaFailed
from distopt.tracebacks import format_error
from distopt.typing import Array

__all__ = ["in_process_world"]


def in_process_world(
    scheduler: TurnScheduler, index: int, outer: World | None = None, nodes: int = 0
) -> World:
    """Returns the world of one of ``scheduler.size`` replicas in this process.

    Args:
        scheduler: decides which thread of this process runs.
        index: the number of this thread.
        outer: the world of the processes, each with ``scheduler.size`` replicas; by default this process.
        nodes: with one process, the number of nodes to simulate; 0 for no simulation.
    """
    outer = outer or solo_world()
    threads = ThreadGroup(scheduler, index)
    status = ThreadStatus(scheduler, index, outer.status)
    width = scheduler.size if outer.comm.size > 1 else node_width(scheduler.size, nodes)
    comm: Communicator
    cross: Communicator
    if width < scheduler.size:
        node, cross = _simulated(scheduler, index, width)
        comm = InProcessCommunicator(threads, outer.comm)
    elif outer.cross.size > 1:
        node = InProcessNode(threads, outer.node)
        comm, cross = InProcessCommunicator(threads, outer.comm), InProcessCross(threads, outer.cross)
    else:
        comm = node = InProcessNode(threads, outer.node)
        cross = SoloCommunicator()
    first = index // width * width
    beside = ThreadGroup(scheduler, index, range(first, first + width))
    return World(comm, node, cross, threads, status, outer.abort, beside)


def _simulated(scheduler: TurnScheduler, index: int, width: int) -> tuple[NodeCommunicator, Communicator]:
    """The communicators ``node`` and ``cross`` of a thread, for simulated nodes of ``width`` threads."""
    first, alone = index // width * width, SoloCommunicator()
    node = ThreadGroup(scheduler, index, range(first, first + width))
    cross = ThreadGroup(scheduler, index, range(index % width, scheduler.size, width))
    return InProcessNode(node, alone), InProcessCommunicator(cross, alone)


class ThreadGroup(LocalGroup):
    """A group of threads of a process. The first of them executes the functions of :meth:`run_once`.

    Args:
        scheduler: decides which thread runs.
        index: the number of this thread.
        members: the numbers of the threads in the group; all by default.
    """

    def __init__(self, scheduler: TurnScheduler, index: int, members: range | None = None) -> None:
        self._scheduler, self._index = scheduler, index
        self._members = range(scheduler.size) if members is None else members
        self.rank, self.size = self._members.index(index), len(self._members)

    def run_once(self, contribution: Any, function: Callable[[list[Any]], Any]) -> Any:
        """See LocalGroup."""
        contributions = self._scheduler.rendezvous(self._index, contribution, self._members)
        # The threads continue in order: the first one runs the function, then the others get the result.
        if self.rank == 0:
            try:
                contributions.append((function(contributions[: self.size]), ""))
            except Exception as error:
                contributions.append((None, format_error(error)))
                raise
        if len(contributions) == self.size:  # the first thread ended in the function, without a result
            self._scheduler.rendezvous(self._index, None, self._members)
        result, failure = contributions[self.size]
        if failure:
            first = self._scheduler.first + self._members[0]
            raise ReplicaFailed(f"replica {first} raised, for all of its process:\n{failure}")
        return result


class ThreadStatus:
    """Records the status of a thread for the scheduler, and that of the process for other processes.

    Args:
        scheduler: the scheduler of the threads.
        index: the number of this thread.
        outer: the status writer of the process.
    """

    def __init__(self, scheduler: TurnScheduler, index: int, outer: StatusWriter) -> None:
        self._scheduler, self._index, self._outer = scheduler, index, outer
        self._last = index == scheduler.size - 1

    def write(self, place: str, call: int, step: int) -> None:
        """See StatusWriter."""
        self._scheduler.set_status(self._index, f"{place} (call {call})")
        if self._last:  # the threads take turns, so all of this process have arrived
            self._outer.write(place, call, step)

    def add_remark(self, remark: Callable[[], str]) -> None:
        """See StatusWriter. Does nothing: threads take turns, so none of them is late."""


class InProcessCommunicator(Communicator):
    """A group of the threads of one process, or of all processes of an outer communicator.

    Arguments are copied before another thread runs, so a replica may change its arrays when its call returns.
    Thread 0 communicates with other processes for all threads.

    Args:
        threads: the group of the threads of this process.
        outer: the communicator of the processes.
    """

    def __init__(self, threads: LocalGroup, outer: Communicator) -> None:
        self._threads, self._outer = threads, outer
        self.rank = outer.rank * threads.size + threads.rank
        self.size = outer.size * threads.size

    def barrier(self) -> None:
        """See Communicator."""
        self._threads.run_once(None, lambda _: self._outer.barrier())

    def exchange(self, header: bytes) -> list[bytes]:
        """See Communicator."""

        def function(headers: list[bytes]) -> list[bytes]:
            if self._outer.size == 1:
                return headers
            rows = self._outer.all_gather(np.frombuffer(b"".join(headers), np.uint8))
            flat = b"".join(row.tobytes() for row in rows)
            return [flat[i : i + len(header)] for i in range(0, len(flat), len(header))]

        result: list[bytes] = self._threads.run_once(header, function)
        return result

    def all_gather(self, array: Array) -> list[Array]:
        """See Communicator."""

        def function(arrays: list[Array]) -> list[Array]:
            if self._outer.size == 1:
                return arrays
            return [row for block in self._outer.all_gather(np.stack(arrays)) for row in block]

        result: list[Array] = self._threads.run_once(np.array(array), function)
        return result

    def all_to_all(self, parts: Sequence[Array]) -> list[Array]:
        """See Communicator."""
        local = self._threads.size

        def function(sent: list[list[Array]]) -> list[list[Array]]:
            if self._outer.size == 1:
                return [[row[d] for row in sent] for d in range(local)]
            packed = [
                np.concatenate([row[p * local + d] for row in sent for d in range(local)])
                for p in range(self._outer.size)
            ]
            lengths = [sent[0][self._outer.rank * local + d].size for d in range(local)]
            cuts = np.cumsum(lengths * local)[:-1]
            got = [piece for block in self._outer.all_to_all(packed) for piece in np.split(block, cuts)]
            return [got[d::local] for d in range(local)]

        result: list[list[Array]] = self._threads.run_once([np.array(p) for p in parts], function)
        return result[self._threads.rank]

    def begin_messages(
        self,
        sent: Sequence[tuple[int, Array]],
        received: Sequence[tuple[int, Array]],
        tag: int = 0,
        came: Arrivals | None = None,
    ) -> Callable[[], bool]:
        """See Communicator. The messages have arrived when the call returns."""
        local, process = self._threads.size, self._outer.rank

        def function(calls: list[Any]) -> None:
            here = {(source, target): array for source, out, _ in calls for target, array in out}
            there = {(source, target): room for target, _, rooms in calls for source, room in rooms}
            for way in here.keys() & there.keys():
                there[way][:] = here[way]
            # Messages between two processes are ordered by sender, then by receiver.
            out = [(way[1] // local, here[way]) for way in sorted(here) if way[1] // local != process]
            rooms = [(way[0] // local, there[way]) for way in sorted(there) if way[0] // local != process]
            _finish(self._outer, out, rooms, tag)

        self._threads.run_once((self.rank, sent, received), function)
        return lambda: True

    def broadcast(self, array: Array, root: int = 0) -> Array:
        """See Communicator."""
        process, index = divmod(root, self._threads.size)

        def function(arrays: list[Array]) -> Array:
            return self._outer.broadcast(arrays[index], process)

        result: Array = self._threads.run_once(np.array(array), function)
        return result

    def gather_bytes(self, data: bytes) -> list[bytes]:
        """See Communicator."""

        def function(texts: list[bytes]) -> list[bytes]:
            if self._outer.size == 1:
                return texts
            lengths = np.array([len(t) for t in texts], np.int64)
            all_lengths = np.concatenate(self._outer.all_gather(lengths))
            flat = b"".join(self._outer.gather_bytes(b"".join(texts)))
            ends = np.cumsum(all_lengths)
            return [flat[end - n : end] for end, n in zip(ends, all_lengths, strict=True)]

        result: list[bytes] = self._threads.run_once(data, function)
        return result


class InProcessNode(InProcessCommunicator, NodeCommunicator):
    """A group of the threads of one process, or of all processes of a node.

    Args:
        threads: the group of the threads of this process.
        outer: the communicator of the processes of the node.
    """

    def __init__(self, threads: LocalGroup, outer: NodeCommunicator) -> None:
        super().__init__(threads, outer)
        self._node = outer

    def shared_block(self, nbytes: int, views: bool = False) -> SharedBlock | None:
        """See NodeCommunicator."""

        def function(_: list[Any]) -> SharedBlock | None:
            if self._node.size == 1:
                return thread_block(nbytes, views)
            return self._node.shared_block(nbytes, views)

        result: SharedBlock | None = self._threads.run_once(None, function)
        return result


class InProcessCross(Communicator):
    """The replicas of the same rank on all nodes, if processes have several threads.

    Thread i communicates with thread i of the processes that have the same rank on their nodes. Thread 0
    makes the calls of all threads, in order.

    Args:
        threads: the group of the threads of this process.
        outer: the communicator of the processes of the same rank on all nodes.
    """

    def __init__(self, threads: LocalGroup, outer: Communicator) -> None:
        self._threads, self._outer = threads, outer
        self.rank, self.size = outer.rank, outer.size

    def _for_each(self, contribution: Any, call: Callable[[Any], Any]) -> Any:
        results = self._threads.run_once(contribution, lambda all_of_them: list(map(call, all_of_them)))
        return results[self._threads.rank]

    def barrier(self) -> None:
        """See Communicator."""
        self._for_each(None, lambda _: self._outer.barrier())

    def exchange(self, header: bytes) -> list[bytes]:
        """See Communicator."""
        result: list[bytes] = self._for_each(header, self._outer.exchange)
        return result

    def all_gather(self, array: Array) -> list[Array]:
        """See Communicator."""
        result: list[Array] = self._for_each(array, self._outer.all_gather)
        return result

    def all_to_all(self, parts: Sequence[Array]) -> list[Array]:
        """See Communicator."""
        result: list[Array] = self._for_each(list(parts), self._outer.all_to_all)
        return result

    def begin_messages(
        self,
        sent: Sequence[tuple[int, Array]],
        received: Sequence[tuple[int, Array]],
        tag: int = 0,
        came: Arrivals | None = None,
    ) -> Callable[[], bool]:
        """See Communicator. The messages have arrived when the call returns."""
        self._for_each((sent, received), lambda own: _finish(self._outer, own[0], own[1], tag))
        return lambda: True

    def broadcast(self, array: Array, root: int = 0) -> Array:
        """See Communicator."""
        result: Array = self._for_each(array, lambda own: self._outer.broadcast(own, root))
        return result

    def gather_bytes(self, data: bytes) -> list[bytes]:
        """See Communicator."""
        result: list[bytes] = self._for_each(data, self._outer.gather_bytes)
        return result


def _finish(
    outer: Communicator, sent: Sequence[tuple[int, Array]], received: Sequence[tuple[int, Array]], tag: int
) -> None:
    outer.track(outer.begin_messages(sent, received, tag))()
