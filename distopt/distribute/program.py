"""The frame of a program's top level: a replica of an MPI job, or the only replica."""

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
    """The strategy of one replica, for programs without a launcher; always the same object."""
    return DefaultStrategy()


def program_frame() -> Frame:
    """The frame of the process: a replica of an MPI job if a launcher or the program started one."""
    own = lifetime.adopted()
    if own is not None:
        return own.base_frame()
    job = launched()
    running = started_mpi() and sys.modules["mpi4py.MPI"].COMM_WORLD.size > 1
    if running or (job is not None and job.size > 1):
        return MPIStrategy().base_frame()
    return default_strategy().base_frame()
