"""Child processes that a replica forks: they have a copy of its memory, but do not belong to its job."""

from __future__ import annotations

import os
import sys
from typing import NamedTuple

__all__ = ["forks", "require_own_mpi", "require_own_process", "started_mpi"]


class _Fork(NamedTuple):
    parent: int
    after_mpi: bool


#: The forks that led to this process. Callers test ``if forks:`` first, which is cheaper than a call.
forks: list[_Fork] = []


def started_mpi() -> bool:
    """Whether MPI runs in this process, and was not merely copied into it by a fork."""
    mpi = sys.modules.get("mpi4py.MPI")
    copied = any(fork.after_mpi for fork in forks)
    return mpi is not None and not copied and mpi.Is_initialized() and not mpi.Is_finalized()


def require_own_mpi() -> None:
    """Raises RuntimeError in a child that was forked from a process with MPI."""
    for fork in forks:
        if fork.after_mpi:
            require_own_process(fork.parent)


def require_own_process(pid: int) -> None:
    """Raises RuntimeError in a child of the process ``pid``, which is the replica."""
    if forks and os.getpid() != pid:
        raise RuntimeError(
            f"this process ({os.getpid()}) was forked from the replica of process {pid}, and cannot take "
            "part in its collective calls: make them in the replica, and pass the results on. Optimizers "
            "and variables that the child creates work alone, as without a launcher."
        )


def _forked() -> None:
    forks.append(_Fork(os.getppid(), started_mpi()))


os.register_at_fork(after_in_child=_forked)
