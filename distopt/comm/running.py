"""Checks whether MPI is running, because a program may start and end it itself."""

from __future__ import annotations

from typing import Any

from distopt.errors import LaunchError

__all__ = ["require_running"]


def require_running(mpi: Any) -> None:
    """Raises LaunchError if MPI is not initialized or has been finalized. MPI would end the process.

    Args:
        mpi: the module ``mpi4py.MPI``.
    """
    if mpi.Is_finalized():
        raise LaunchError(
            "MPI has been finalized, so the replicas of this job cannot reach each other any more: call "
            "MPI.Finalize() after the last use of distopt, or leave it to mpi4py, which does so at the "
            "program's end"
        )
    if not mpi.Is_initialized():
        raise LaunchError(
            "MPI is not initialized, since mpi4py.rc.initialize is False: call MPI.Init() before the first "
            "use of distopt (the first variable, say), or drop the setting"
        )
