"""Replicas as MPI processes. Buffers only, moved as bytes."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from distopt.comm.communicator import Code, Communicator
from distopt.comm.forks import forks, require_own_process
from distopt.comm.library import load_mpi
from distopt.comm.memory import (
    HANDLE_BYTES,
    SharedBlock,
    create_block,
    once,
    open_block,
    release_handle,
    take_names,
)
from distopt.comm.notes import Notes
from distopt.comm.output import drain, say
from distopt.comm.patience import Patience
from distopt.comm.start import FirstUse
from distopt.comm.table import Table
from distopt.comm.whereabouts import Whereabouts
from distopt.settings import Settings
from distopt.typing import Array

__all__ = ["MESSAGE", "MPICommunicator", "world"]

#: The bytes of one message at most: many MPIs count them with 31 bits.
MESSAGE = 1 << 30

#: The bytes of one replica in :meth:`MPICommunicator.gather_bytes` at most.
WORDS = 1 << 28

#: MPICH's own memory of a job, which it would leave behind if the job is killed or aborted.
_NAMED = r"/dev/shm/mpich_shm_\w+"


def world(settings: Settings, comm: Any = None, replicas: int = 1) -> MPICommunicator:
    """The communicator of the whole job.

    Args:
        settings: the watchdog's limits; ``nodes`` to pretend a number of nodes.
        comm: an mpi4py communicator other than COMM_WORLD; it is duplicated.
        replicas: how many replicas each process holds, for messages.
    """
    mpi = load_mpi(settings)
    base = comm or mpi.COMM_WORLD

    def abort(code: int) -> None:
        drain()
        mpi.COMM_WORLD.Abort(code)
        os._exit(code)  # some MPIs return from there before the process is ended

    # What MPI does next it does without a watchdog, so all replicas have to be here.
    patience = Patience(
        settings.stall_seconds, settings.abort_seconds, FirstUse(base.rank, base.size, replicas), abort
    )
    patience.until(base.Ibarrier().Test)
    job = MPICommunicator(mpi, base.Dup(), settings.nodes, patience)
    job.barrier()
    job.share_notes(replicas)
    take_names(_NAMED)
    return job


class MPICommunicator(Communicator):
    """The processes of one mpi4py communicator.

    Args:
        mpi: the module ``mpi4py.MPI``.
        comm: the communicator, used by nobody else.
        nodes: how many nodes to pretend; 0 for the truth.
        patience: how the processes of the job wait, in whatever group.
    """

    def __init__(self, mpi: Any, comm: Any, nodes: int, patience: Patience) -> None:
        self._mpi, self._mpi_comm, self._nodes = mpi, comm, nodes
        self.rank, self.size = comm.rank, comm.size
        self._pid = os.getpid()
        self._patience = patience
        self._note: Callable[[str, int, int], None] | None = None

    @property
    def _comm(self) -> Any:
        if forks:
            require_own_process(self._pid)
        return self._mpi_comm

    # -- small and often
    def barrier(self) -> None:
        """See Communicator."""
        if self.size == 1:
            return
        if forks:
            require_own_process(self._pid)
        table = self._meeting_table
        if table is not None:
            table.meet(None, self._patience.until)
        else:
            self._finish(self._comm.Ibarrier())

    def run(self, code: Code, parts: int) -> None:
        """See Communicator; where all share memory, the code meets the others by itself."""
        if forks:
            require_own_process(self._pid)
        table = self._meeting_table
        if table is None:
            super().run(code, parts)
        else:
            table.run(code, parts, self._patience.until)

    def exchange(self, header: bytes) -> list[bytes]:
        """See Communicator."""
        if self.size == 1:
            return [header]
        if forks:
            require_own_process(self._pid)
        table = self._meeting_table
        if table is not None:
            return table.meet(header, self._patience.until)
        return [row.tobytes() for row in self.all_gather(np.frombuffer(header, np.uint8))]

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
            arrive = self.begin_all_to_all(np.concatenate(sent), [p.size for p in sent])
            target[:, part] = arrive().reshape(self.size, -1)
        return list(target)

    def begin_all_to_all(self, flat: Array, lengths: Sequence[int]) -> Callable[[], Array]:
        """See Communicator."""
        own = lengths[self.rank]
        target = np.empty(self.size * own, flat.dtype)
        sending = self._spread(flat, lengths)
        receiving = self._spread(target, [own] * self.size)
        return self._moving(self._comm.Ialltoallv(sending, receiving), target)

    def begin_all_gather(self, part: Array, lengths: Sequence[int]) -> Callable[[], Array]:
        """See Communicator."""
        target = np.empty(sum(lengths), part.dtype)
        return self._moving(self._comm.Iallgatherv(_bytes(part), self._spread(target, lengths)), target)

    def _spread(self, flat: Array, lengths: Sequence[int]) -> list[Any]:
        """A buffer as parts of these lengths, one for each process, as mpi4py takes it."""
        counts = np.asarray(lengths, np.int64) * flat.itemsize
        return [_bytes(flat), (counts, np.cumsum(counts) - counts), self._mpi.BYTE]

    def _moving(self, request: Any, target: Array) -> Callable[[], Array]:
        wait = self._patience.moving(request.Test)

        def arrive() -> Array:
            wait()
            return target

        return arrive

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
            if not 0 <= length <= WORDS:
                raise ValueError(f"replica {rank} has {length:,} bytes to say; {WORDS:,} at most are taken")
        joined = self.begin_all_gather(np.frombuffer(data, np.uint8), lengths.tolist())()
        return [part.tobytes() for part in np.split(joined, np.cumsum(lengths)[:-1])]

    def _finish(self, request: Any) -> None:
        self._patience.until(request.Test)

    # -- nodes
    @cached_property
    def node(self) -> Communicator:
        """The processes that share memory; groups of equal size, so that ``cross`` is regular."""
        group = self._node_comm()
        if group.size == self.size:
            group.Free()
            return self
        node = MPICommunicator(self._mpi, group, self._nodes, self._patience)
        node.__dict__["node"] = node
        return node

    @cached_property
    def cross(self) -> Communicator:
        """The processes of equal rank within their nodes."""
        group = self._comm.Split(self.node.rank, self.rank)
        cross = MPICommunicator(self._mpi, group, self._nodes, self._patience)
        cross.__dict__["node"] = cross  # never asked for memory: one process a node
        return cross

    def _node_comm(self) -> Any:
        pretend = self._nodes
        if pretend > 0:
            return self._comm.Split(self.rank * min(pretend, self.size) // self.size, self.rank)
        real = self._comm.Split_type(self._mpi.COMM_TYPE_SHARED, self.rank)
        sizes = np.concatenate(self._gather_number(real.size))
        width = math.gcd(*(int(s) for s in sizes))
        if width == real.size:
            return real
        part = real.Split(real.rank // width, real.rank)
        real.Free()
        return part

    def _gather_number(self, number: int) -> list[Array]:
        """One number of each process, before any table exists."""
        target = np.empty(self.size, np.int64)
        self._finish(self._comm.Iallgather(np.array([number], np.int64), target))
        return list(target.reshape(-1, 1))

    @cached_property
    def _meeting_table(self) -> Table | None:
        """The node's table, when all processes are on it; made at the first meeting."""
        if self.node is not self or self.size == 1:
            return None
        block = self.shared_block(Table.room(self.size))
        return None if block is None else Table(block.bytes, self.rank, self.size)

    def shared_block(self, nbytes: int) -> SharedBlock | None:
        """See Communicator."""
        if self.node is not self:
            raise RuntimeError("shared_block() belongs to the communicator of one node: ask .node for it")
        block: SharedBlock | None = None
        problem = ""
        if self.rank == 0:
            block, problem = _attempt(lambda: create_block(nbytes))
        handle = np.zeros(HANDLE_BYTES, np.uint8)
        if block is not None:
            handle[: len(block.handle)] = np.frombuffer(block.handle, np.uint8)
        self._finish(self._comm.Ibcast(handle, 0))
        if self.rank != 0 and handle.any():
            block, problem = _attempt(lambda: open_block(handle.tobytes(), nbytes))
        everyone = all(int(has[0]) for has in self._gather_number(int(block is not None)))
        if self.rank == 0 and block is not None:
            release_handle(block)
        if not everyone and self.rank == 0:
            once(f"distopt: no shared memory on this node ({problem or 'another process'})", say)
        return block if everyone else None

    # -- words
    def share_notes(self, replicas: int) -> None:
        """From now on those who wait see where the others stand; called once, by all of the job."""
        node = self.node
        block = node.shared_block(Notes.room(node.size))
        notes = Notes(np.zeros(Notes.room(1), np.uint8), 0, 1)
        members = [self.rank]
        if block is not None:
            notes = Notes(block.bytes, node.rank, node.size)
            members = [int(rank[0]) for rank in node.all_gather(np.array([self.rank]))]
        far = self._comm.Dup() if len(members) < self.size else None
        whereabouts = Whereabouts(self._mpi, far, self.rank, notes, members, self.size, replicas)
        self._patience.company = whereabouts
        self._note = notes.write if far is None else whereabouts.note

    def note(self, place: str, call: int, step: int) -> None:
        """See Communicator."""
        if forks:
            require_own_process(self._pid)
        if self._note is not None:
            self._note(place, call, step)

    def abort(self, code: int) -> None:
        """See Communicator."""
        self._patience.abort(code)


def _messages(length: int, unit: int = 1) -> Iterator[slice]:
    """The parts in which ``length`` elements of ``unit`` bytes travel: none for none."""
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
