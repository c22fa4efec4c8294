"""Replicas as MPI processes. Buffers only, moved as bytes; the one module that imports mpi4py."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from distopt.comm.communicator import Communicator
from distopt.comm.memory import SharedBlock, create_block, once, open_block, release_handle
from distopt.comm.output import drain
from distopt.comm.patience import Patience
from distopt.comm.table import Table
from distopt.errors import LaunchError, MissingExtra
from distopt.settings import Settings, launched
from distopt.typing import Array

__all__ = ["MPICommunicator", "load_mpi", "world"]


def load_mpi() -> Any:
    """The module ``mpi4py.MPI``, initialized.

    Raises:
        MissingExtra: mpi4py is not installed, or finds no MPI library.
        LaunchError: a launcher started several processes, but this MPI sees one alone.
    """
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        raise MissingExtra("running under MPI", "mpi4py", "mpich") from error
    job = launched()
    if job is not None and job.size > 1 and MPI.COMM_WORLD.size == 1:
        raise LaunchError(
            f"{job.launcher} says that it started {job.size} processes ({job.variable}={job.size}), but "
            f"MPI.COMM_WORLD has size 1: the launcher belongs to another MPI than the one that mpi4py "
            f"loads ({MPI.Get_library_version().split(chr(10))[0].strip()}). Start the job with that MPI's "
            f"own mpiexec, or with distoptrun, which finds it."
        )
    return MPI


def world(settings: Settings, comm: Any = None) -> MPICommunicator:
    """The communicator of the whole job.

    Args:
        settings: the watchdog's limits; ``nodes`` to pretend a number of nodes.
        comm: an mpi4py communicator other than COMM_WORLD; it is duplicated.
    """
    mpi = load_mpi()
    base = comm or mpi.COMM_WORLD

    def where() -> str:
        return f"  replica {base.rank}: at its first use of the job; not all of {base.size} have come so far"

    def abort(code: int) -> None:
        mpi.COMM_WORLD.Abort(code)

    # What MPI does next it does without a watchdog, so all replicas have to be here.
    patience = Patience(settings.stall_seconds, settings.abort_seconds, where, abort)
    patience.until(base.Ibarrier().Test)
    job = MPICommunicator(mpi, base.Dup(), settings)
    job.barrier()
    return job


class MPICommunicator(Communicator):
    """The processes of one mpi4py communicator.

    Args:
        mpi: the module ``mpi4py.MPI``.
        comm: the communicator, used by nobody else.
        settings: the watchdog's limits.
        table: rows in shared memory, when all processes are on one node.
    """

    def __init__(self, mpi: Any, comm: Any, settings: Settings, table: Table | None = None) -> None:
        self._mpi, self._comm, self._settings = mpi, comm, settings
        self._table = table
        self.rank, self.size = comm.rank, comm.size
        self._note: tuple[str, int] | None = None
        self._patience = Patience(settings.stall_seconds, settings.abort_seconds, self._where, self.abort)

    # -- small and often
    def barrier(self) -> None:
        """See Communicator."""
        if self.size == 1:
            return
        table = self._meeting_table
        if table is not None:
            table.meet(None, self._patience.until)
        else:
            self._finish(self._comm.Ibarrier())

    def exchange(self, header: bytes) -> list[bytes]:
        """See Communicator."""
        if self.size == 1:
            return [header]
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
        if source.nbytes:
            self._finish(self._comm.Iallgather(_bytes(source), _bytes(target)))
        return list(target)

    def all_to_all(self, parts: Sequence[Array]) -> list[Array]:
        """See Communicator."""
        if self.size == 1:
            return [parts[0]]
        item = parts[0].itemsize
        own = parts[self.rank]
        counts = [p.nbytes for p in parts]
        starts = [sum(counts[:i]) for i in range(self.size)]
        source = _bytes(np.concatenate(parts))
        target = np.empty((self.size, own.size), own.dtype)
        received = [own.size * item] * self.size
        offsets = [i * own.size * item for i in range(self.size)]
        byte = self._mpi.BYTE
        sending = [source, (counts, starts), byte]
        receiving = [_bytes(target), (received, offsets), byte]
        self._finish(self._comm.Ialltoallv(sending, receiving))
        return list(target)

    def broadcast(self, array: Array, root: int = 0) -> Array:
        """See Communicator."""
        target = np.array(array, order="C")
        if self.size > 1 and target.nbytes:
            self._finish(self._comm.Ibcast(_bytes(target), root))
        return target

    def gather_bytes(self, data: bytes) -> list[bytes]:
        """See Communicator."""
        if self.size == 1:
            return [data]
        lengths = np.concatenate(self.all_gather(np.array([len(data)], np.int64)))
        padded = np.zeros(int(lengths.max()), np.uint8)
        padded[: len(data)] = np.frombuffer(data, np.uint8)
        return [row[:n].tobytes() for row, n in zip(self.all_gather(padded), lengths, strict=True)]

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
        node = MPICommunicator(self._mpi, group, self._settings)
        node.__dict__["node"] = node
        return node

    @cached_property
    def cross(self) -> Communicator:
        """The processes of equal rank within their nodes."""
        cross = MPICommunicator(self._mpi, self._comm.Split(self.node.rank, self.rank), self._settings)
        cross.__dict__["node"] = cross  # never asked for memory: one process a node
        return cross

    def _node_comm(self) -> Any:
        pretend = self._settings.nodes
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
        if self._table is None and self.node is self and self.size > 1:
            block = self.shared_block(Table.room(self.size))
            self._table = None if block is None else Table(block.bytes, self.rank, self.size)
        return self._table

    def shared_block(self, nbytes: int) -> SharedBlock | None:
        """See Communicator."""
        if self.node is not self:
            raise RuntimeError("shared_block() belongs to the communicator of one node: ask .node for it")
        block: SharedBlock | None = None
        problem = ""
        if self.rank == 0:
            block, problem = _attempt(lambda: create_block(nbytes))
        handle = self._comm.bcast(block.handle if block else "", root=0)
        if self.rank != 0 and handle:
            block, problem = _attempt(lambda: open_block(handle))
        everyone = all(self._comm.allgather(block is not None))
        if self.rank == 0 and block is not None:
            release_handle(block)
        if not everyone and self.rank == 0:
            text = f"no shared memory of {nbytes:,} bytes on this node ({problem or 'another process'})"
            once(f"distopt: {text}; using private memory", _say)
        return block if everyone else None

    # -- words
    def note(self, place: str, call: int) -> None:
        """See Communicator."""
        self._note = (place, call)
        if self._table is not None:
            self._table.note(place, call)

    def _where(self) -> str:
        own = "in a collective call" if self._note is None else "in {} (call {})".format(*self._note)
        lines = [f"  replica {self.rank}: {own} (this one)"]
        if self._table is not None:
            missing = set(self._table.missing())
            for rank, note in enumerate(self._table.notes()):
                if rank != self.rank:
                    state = "has not come; last seen in" if rank in missing else "waits in"
                    lines.append(f"  replica {rank}: {state} {note or 'no collective call yet'}")
        else:
            lines.append(f"  the other {self.size - 1} replicas: on several nodes, no word of them")
        return "\n".join(lines)

    def abort(self, code: int) -> None:
        """See Communicator."""
        drain()
        self._mpi.COMM_WORLD.Abort(code)


def _bytes(array: Array) -> Array:
    return array.reshape(-1).view(np.uint8)


def _attempt(make: Callable[[], SharedBlock]) -> tuple[SharedBlock | None, str]:
    try:
        return make(), ""
    except OSError as error:
        return None, str(error)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
