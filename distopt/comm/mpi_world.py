"""The world of an MPI job: its groups of processes, and the watchdog over all that they wait for."""

from __future__ import annotations

import math
import socket
from typing import Any

import numpy as np

from distopt.comm.communicator import Communicator
from distopt.comm.ending import abort_job
from distopt.comm.library import load_mpi
from distopt.comm.local import LocalGroup
from distopt.comm.memory import take_names
from distopt.comm.mpi import MPICommunicator, MPINodeCommunicator
from distopt.comm.node_width import pretended_node
from distopt.comm.solo import SoloCommunicator
from distopt.comm.startup import StartupObserver
from distopt.comm.status_board import StatusBoard
from distopt.comm.status_reporter import StatusReporter
from distopt.comm.watchdog import Watchdog
from distopt.comm.world import StatusWriter, World
from distopt.errors import ReplicaMismatch
from distopt.settings import Settings

__all__ = ["mpi_world"]

#: MPICH's own memory of a job, which it would leave behind if the job is killed or aborted.
_NAMED = r"/dev/shm/mpich_shm_\w+"


def mpi_world(settings: Settings, comm: Any = None, replicas: int = 1) -> World:
    """The world of one process of the job.

    Args:
        settings: the watchdog's limits; ``nodes`` to pretend a number of nodes.
        comm: an mpi4py communicator other than COMM_WORLD; it is duplicated.
        replicas: how many replicas each process holds, for messages.

    Raises:
        ReplicaMismatch: settings differ that decide which messages are sent.
    """
    mpi = load_mpi(settings)
    base = comm or mpi.COMM_WORLD

    # What MPI does next it does without a watchdog, so all replicas have to be here.
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
    take_names(_NAMED)
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


def _node_group(mpi: Any, job: Any, pretended: int, watchdog: Watchdog) -> Any:
    """The processes that share memory; groups of equal size, so that those across nodes are regular."""
    if pretended > 0:
        real = job.Split(pretended_node(job.rank, job.size, pretended), job.rank)
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
    """From now on those who wait see what the others are doing; called once, by all of the job."""
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
