"""Children that a replica forks: they have a copy of its memory, and no part in its job."""

from __future__ import annotations

import os
import sys

__all__ = ["forks", "require_own_mpi", "require_own_process", "started_mpi"]

#: The process that this one was forked from after MPI had been started there.
_origin: list[int] = []
#: Not empty in a forked process: others need not call anything to know that they are in none.
forks: list[int] = []


def started_mpi() -> bool:
    """Whether MPI runs in this process, and was not merely copied into it by a fork."""
    mpi = sys.modules.get("mpi4py.MPI")
    return mpi is not None and not _origin and mpi.Is_initialized() and not mpi.Is_finalized()


def require_own_mpi() -> None:
    """Raises RuntimeError in a child that was forked from a process with MPI."""
    if _origin:
        require_own_process(_origin[0])


def require_own_process(pid: int) -> None:
    """Raises RuntimeError in a child of the process ``pid``, which is the replica."""
    if forks and os.getpid() != pid:
        raise RuntimeError(
            f"this process ({os.getpid()}) was forked from the replica of process {pid}, and cannot take "
            f"part in that one's collective calls: make them in the replica, and hand the results over. "
            f"Optimizers and variables that the child makes itself are alone, as without a launcher."
        )


def _forked() -> None:
    forks.append(os.getppid())
    if started_mpi():
        _origin.append(os.getppid())


os.register_at_fork(after_in_child=_forked)
