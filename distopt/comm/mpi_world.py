"""Creates the World of an MPI process: its communicators, status board and watchdog."""

from __future__ import annotations

import math
import socket
from typing import Any

import numpy as np

from distopt.comm.communicator import Communicator
from distopt.comm.ending import abort_job
from distopt.comm.library import load_mpi
from distopt.comm.local import LocalGroup
from distopt.comm.memory import unlink_mapped
from distopt.comm.mpi import MPICommunicator, MPINodeCommunicator
from distopt.comm.node_width import simulated_node
from distopt.comm.solo import SoloCommunicator
from distopt.comm.startup import StartupObserver
from distopt.comm.status_board import StatusBoard
from distopt.comm.status_reporter import StatusReporter
from distopt.comm.watchdog import Watchdog
from distopt.comm.world import StatusWriter, World
from distopt.errors import ReplicaMismatch
from distopt.settings import Settings

__all__ = ["mpi_world"]

#: Files of MPICH's own shared memory, which would be left behind if the job is killed or aborted.
_NAMED = r"/dev/shm/mpich_shm_\w+"


def mpi_world(settings: Settings, comm: Any = None, replicas: int = 1) -> World:
    """Creates the world of one process of the job; collective.

    Args:
        settings: the limits of the watchdog; ``nodes`` to simulate a number of nodes.
        comm: an mpi4py communicator, which is duplicated; by default COMM_WORLD.
        replicas: the number of replicas in each process, for messages.

    Raises:
        ReplicaMismatch: settings differ that decide which messages are sent.
    """
    mpi = load_mpi(settings)
    base = comm or mpi.COMM_WORLD

    # The next calls of MPI wait without a watchdog, so wait here until all processes have arrived.
    observer = StartupObserver(base.rank, base.size, replicas)
    watchdog = Watchdog(settings.stall_seconds, settings.abort_seconds, observer, abort_job)
    watchdog.wait_until(base.Ibarrier().Test)
    job = base.Dup()
    _agree_on(settings, MPICommunicator(mpi, job, watchdog))
    group = _node_group(mpi, job, settings.nodes, watchdog)
    everyone: MPICommunicator
    cross: Communicator
    if group.size == job.size:
        group.Free()
        everyone = node = MPINodeCommunicator(mpi, job, watchdog)
        cross = SoloCommunicator()
    else:
        everyone, node = MPICommunicator(mpi, job, watchdog), MPINodeCommunicator(mpi, group, watchdog)
        cross = MPICommunicator(mpi, job.Split(node.rank, job.rank), watchdog)
    everyone.barrier()
    status = _share_status(mpi, job, node, watchdog, replicas)
    unlink_mapped(_NAMED)
    return World(everyone, node, cross, LocalGroup(), status, abort_job)


def _agree_on(settings: Settings, everyone: MPICommunicator) -> None:
    """With differing ones of these settings, replicas would wait for messages that nobody sends."""
    names = ("nodes", "memory", "overlap", "audit_every")
    own = " ".join(f"DISTOPT_{name.upper()}={getattr(settings, name)}" for name in names)
    given = [text.decode() for text in everyone.gather_bytes(own.encode())]
    for rank, text in enumerate(given):
        if text != given[0]:
            raise ReplicaMismatch(
                f"the settings of processes 0 and {rank} differ; set the variables to the same values for "
                f"all processes\n  process 0: {given[0]}\n  process {rank}: {text}"
            )


def _node_group(mpi: Any, job: Any, simulated: int, watchdog: Watchdog) -> Any:
    """The mpi4py communicator of processes that share memory.

    All nodes must have the same number of processes, so that ``cross`` has one process on each of them. If
    real nodes differ, each is divided into several; the size is their greatest common divisor.
    """
    if simulated > 0:
        real = job.Split(simulated_node(job.rank, job.size, simulated), job.rank)
    else:
        real = job.Split_type(mpi.COMM_TYPE_SHARED, job.rank)
    sizes = MPICommunicator(mpi, job, watchdog).all_gather(np.array([real.size], np.int64))
    width = math.gcd(*(int(size[0]) for size in sizes))
    if width == real.size:
        return real
    part = real.Split(real.rank // width, real.rank)
    real.Free()
    return part


def _share_status(
    mpi: Any, job: Any, node: MPINodeCommunicator, watchdog: Watchdog, replicas: int
) -> StatusWriter:
    """Creates the status board, and sets the watchdog's observer, which reads it; collective."""
    block = node.shared_block(StatusBoard.room(node.size))
    board = StatusBoard(np.zeros(StatusBoard.room(1), np.uint8), 0, 1)
    members = [job.rank]
    if block is not None:
        board = StatusBoard(block.bytes, node.rank, node.size)
        members = [int(rank[0]) for rank in node.all_gather(np.array([job.rank]))]
    far, hosts = None, [""] * job.size
    if len(members) < job.size:
        names = MPICommunicator(mpi, job, watchdog).gather_bytes(socket.gethostname().encode())
        far, hosts = job.Dup(), [name.decode() for name in names]
    reporter = StatusReporter(mpi, far, job.rank, board, members, job.size, replicas, hosts)
    watchdog.observer = reporter
    return board if far is None else reporter
