"""Communicators for replicas that are MPI processes. They send only bytes of buffers, without pickle."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from distopt.comm.communicator import Communicator, NodeCommunicator
from distopt.comm.compiled import CompiledCode
from distopt.comm.forks import forks, require_own_process
from distopt.comm.memory import (
    HANDLE_BYTES,
    SharedBlock,
    create_block,
    open_block,
    release_handle,
)
from distopt.comm.output import say_once
from distopt.comm.peer_waits import Arrivals
from distopt.comm.running import require_running
from distopt.comm.shared_barrier import SharedBarrier
from distopt.comm.watchdog import Watchdog
from distopt.typing import Array

__all__ = ["MESSAGE", "MPICommunicator", "MPINodeCommunicator"]

#: The largest message in bytes: many MPIs count them with 31 bits.
MESSAGE = 1 << 30

#: The most bytes of one replica in :meth:`MPICommunicator.gather_bytes`.
TEXT = 1 << 28


class MPICommunicator(Communicator):
    """The processes of one mpi4py communicator.

    Args:
        mpi: the module ``mpi4py.MPI``.
        comm: the mpi4py communicator, which nothing else may use.
        watchdog: waits for requests; one for all communicators of the process.
    """

    def __init__(self, mpi: Any, comm: Any, watchdog: Watchdog) -> None:
        self._mpi, self._mpi_comm = mpi, comm
        self.rank, self.size = comm.rank, comm.size
        self._pid = os.getpid()
        self._watchdog = watchdog

    @property
    def _comm(self) -> Any:
        if forks:
            require_own_process(self._pid)
        if self._mpi.Is_finalized():
            require_running(self._mpi)
        return self._mpi_comm

    asynchronous = True

    # -- small messages
    def barrier(self) -> None:
        """See Communicator."""
        self._finish(self._comm.Ibarrier())

    def exchange(self, header: bytes) -> list[bytes]:
        """See Communicator."""
        return self.begin_exchange(header)()

    def begin_exchange(self, header: bytes) -> Callable[[], list[bytes]]:
        """See Communicator."""
        rows = np.empty((self.size, len(header)), np.uint8)
        request = self._comm.Iallgather(np.frombuffer(header, np.uint8), rows)

        def wait() -> list[bytes]:
            self._finish(request)
            return [row.tobytes() for row in rows]

        return wait

    # -- arrays
    def all_gather(self, array: Array) -> list[Array]:
        """See Communicator."""
        source = np.ascontiguousarray(array)
        if self.size == 1:
            return [source]
        target = np.empty((self.size, *source.shape), source.dtype)
        rows = _bytes(target).reshape(self.size, source.nbytes)
        for part in _messages(source.nbytes):
            if part == slice(0, source.nbytes):
                self._finish(self._comm.Iallgather(_bytes(source), rows))
            else:
                received = np.empty((self.size, part.stop - part.start), np.uint8)
                self._finish(self._comm.Iallgather(_bytes(source)[part], received))
                rows[:, part] = received
        return list(target)

    def all_to_all(self, parts: Sequence[Array]) -> list[Array]:
        """See Communicator."""
        if self.size == 1:
            return [parts[0]]
        target = np.empty((self.size, parts[self.rank].size), parts[0].dtype)
        for part in _messages(max(p.size for p in parts), self.size * target.itemsize):
            sent = [p[part] for p in parts]
            received = np.empty((self.size, sent[self.rank].size), target.dtype)
            lengths = [[p.size for p in sent], [received.shape[1]] * self.size]
            buffers = map(self._spread, (np.concatenate(sent), received), lengths)
            self._finish(self._comm.Ialltoallv(*buffers))
            target[:, part] = received
        return list(target)

    def begin_messages(
        self,
        sent: Sequence[tuple[int, Array]],
        received: Sequence[tuple[int, Array]],
        tag: int = 0,
        came: Arrivals | None = None,
    ) -> Callable[[], bool]:
        """See Communicator."""
        comm = self._comm
        requests = [comm.Irecv(_bytes(array), source, tag) for source, array in received]
        requests += [comm.Isend(_bytes(array), target, tag) for target, array in sent]
        if came is None:
            test = self._mpi.Request.Testall
            return lambda: bool(test(requests))
        return lambda: self._look(requests, [source for source, _ in received], came)

    def _look(self, requests: list[Any], sources: list[int], came: Arrivals) -> bool:
        """Tests requests, reports each message that has arrived to ``came``; whether all are finished."""
        found = self._mpi.Request.Testsome(requests)
        if found is None:  # none was left
            return True
        for k in found:
            if k < len(sources):
                came.add(sources[k])
        return not any(requests)

    def channel(self) -> Communicator | None:
        """See Communicator."""
        mpi = self._mpi
        if mpi.Query_thread() < mpi.THREAD_MULTIPLE:
            return None
        channel = MPICommunicator(mpi, self._comm.Dup(), self._watchdog)
        channel.waits = self.waits
        return channel

    def track(self, done: Callable[[], bool]) -> Callable[[], None]:
        """See Communicator."""
        arrive = self._watchdog.track(done)

        def wait() -> None:
            waits = self.waits
            if waits is None:
                arrive()
                return
            waits.begin()
            try:
                arrive()
            finally:
                waits.end()

        return wait

    def _spread(self, flat: Array, lengths: Sequence[int]) -> list[Any]:
        """mpi4py's description of a buffer with parts of these lengths, in elements, one per process."""
        counts = np.asarray(lengths, np.int64) * flat.itemsize
        return [_bytes(flat), (counts, np.cumsum(counts) - counts), self._mpi.BYTE]

    def broadcast(self, array: Array, root: int = 0) -> Array:
        """See Communicator."""
        target = np.array(array, order="C")
        for part in _messages(target.nbytes if self.size > 1 else 0):
            self._finish(self._comm.Ibcast(_bytes(target)[part], root))
        return target

    def gather_bytes(self, data: bytes) -> list[bytes]:
        """See Communicator."""
        if self.size == 1:
            return [data]
        lengths = np.concatenate(self.all_gather(np.array([len(data)], np.int64)))
        for rank, length in enumerate(lengths.tolist()):
            if not 0 <= length <= TEXT:
                raise ValueError(f"replica {rank} has {length:,} bytes to say; {TEXT:,} at most are taken")
        joined = np.empty(lengths.sum(), np.uint8)
        sent = np.frombuffer(data, np.uint8)
        self._finish(self._comm.Iallgatherv(sent, self._spread(joined, lengths.tolist())))
        return [part.tobytes() for part in np.split(joined, np.cumsum(lengths)[:-1])]

    def _finish(self, request: Any) -> None:
        self._watchdog.wait_until(request.Test)


class MPINodeCommunicator(MPICommunicator, NodeCommunicator):
    """The processes of a node. Barriers and headers use shared memory, if there is any.

    Arguments as for :class:`MPICommunicator`.
    """

    def barrier(self) -> None:
        """See Communicator."""
        if self.size == 1:
            return
        if forks:
            require_own_process(self._pid)
        shared = self._shared_barrier
        if shared is not None:
            shared.wait(None, self._watchdog.wait_until)
        else:
            super().barrier()

    def run(self, code: CompiledCode, parts: int) -> None:
        """See NodeCommunicator. With shared memory, the compiled code itself waits at the barriers."""
        if forks:
            require_own_process(self._pid)
        shared = self._shared_barrier
        if shared is None:
            super().run(code, parts)
        else:
            shared.run(code, parts, self._watchdog.wait_until)

    def exchange(self, header: bytes) -> list[bytes]:
        """See Communicator."""
        if self.size == 1:
            return [header]
        if forks:
            require_own_process(self._pid)
        shared = self._shared_barrier
        if shared is not None:
            return shared.wait(header, self._watchdog.wait_until)
        return super().begin_exchange(header)()

    def begin_exchange(self, header: bytes) -> Callable[[], list[bytes]]:
        """See Communicator. In shared memory, the exchange is finished when this returns."""
        return Communicator.begin_exchange(self, header)

    @cached_property
    def _shared_barrier(self) -> SharedBarrier | None:
        """The barrier, created in the first call that needs it; None if there is no shared memory."""
        if self.size == 1:
            return None
        block = self.shared_block(SharedBarrier.room(self.size))
        return None if block is None else SharedBarrier(block.bytes, self.rank, self.size)

    def shared_block(self, nbytes: int, views: bool = False) -> SharedBlock | None:
        """See NodeCommunicator."""
        block: SharedBlock | None = None
        problem = ""
        if self.rank == 0:
            block, problem = _attempt(lambda: create_block(nbytes, views))
        handle = np.zeros(HANDLE_BYTES, np.uint8)
        if block is not None:
            handle[: len(block.handle)] = np.frombuffer(block.handle, np.uint8)
        self._finish(self._comm.Ibcast(handle, 0))
        if self.rank != 0 and handle.any():
            block, problem = _attempt(lambda: open_block(handle.tobytes(), nbytes, views))
        everyone = all(int(has[0]) for has in self.all_gather(np.array([block is not None], np.int64)))
        if self.rank == 0 and block is not None:
            release_handle(block)
        if not everyone and self.rank == 0:
            say_once(f"distopt: no shared memory on this node ({problem or 'another process'})")
        return block if everyone else None


def _messages(length: int, unit: int = 1) -> Iterator[slice]:
    """Divides ``length`` elements of ``unit`` bytes into messages: slices; none if ``length`` is 0."""
    step = max(MESSAGE // unit, 1)
    for start in range(0, length, step):
        yield slice(start, min(start + step, length))


def _bytes(array: Array) -> Array:
    return array.reshape(-1).view(np.uint8)


def _attempt(make: Callable[[], SharedBlock]) -> tuple[SharedBlock | None, str]:
    try:
        return make(), ""
    except OSError as error:
        return None, str(error)
