"""What a program is at its top level: one replica of an MPI job, or a single one."""

from __future__ import annotations

import sys
from functools import cache

from distopt.comm import started_mpi
from distopt.distribute import lifetime
from distopt.distribute.frames import Frame
from distopt.distribute.replica_strategy import DefaultStrategy, MPIStrategy
from distopt.launched import launched

__all__ = ["default_strategy", "program_frame"]


@cache
def default_strategy() -> DefaultStrategy:
    """The one-replica strategy of a program without a launcher; always the same object."""
    return DefaultStrategy()


def program_frame() -> Frame:
    """The frame below all others: a job's replica, if a launcher started one or the program made one."""
    own = lifetime.adopted()
    if own is not None:
        return own.base_frame()
    job = launched()
    running = started_mpi() and sys.modules["mpi4py.MPI"].COMM_WORLD.size > 1
    if running or (job is not None and job.size > 1):
        return MPIStrategy().base_frame()
    return default_strategy().base_frame()
