"""Loads mpi4py, which initializes MPI, under a watchdog, and checks that it is the MPI of the launcher.

This is the only module that imports mpi4py.
"""

from __future__ import annotations

import importlib.util
import sys
from typing import Any

from distopt.comm.finalization import guard_finalization
from distopt.comm.forks import require_own_mpi
from distopt.comm.running import require_running
from distopt.comm.startup import startup_watchdog
from distopt.errors import LaunchError, MissingExtra
from distopt.launched import (
    Launched,
    allow_for_containers,
    disconnect,
    launched,
    lost_connection,
    receive_in_large_parts,
)
from distopt.settings import Settings

__all__ = ["load_mpi"]


def load_mpi(settings: Settings) -> Any:
    """The module ``mpi4py.MPI``, initialized.

    Args:
        settings: the limits of the watchdog.

    Raises:
        MissingExtra: mpi4py is not installed, or finds no MPI library.
        LaunchError: a launcher started several processes, but MPI.COMM_WORLD has one; or the connection to
            the launcher belongs to another process; or MPI is not running, see :func:`require_running`.
        RuntimeError: in a child that was forked from a process with MPI.
    """
    require_own_mpi()
    job = launched()
    if "mpi4py.MPI" not in sys.modules and (lost := lost_connection()):
        raise LaunchError(
            "this process was not started by the MPI launcher itself, but by a process of its job, which "
            f"did not pass the connection on ({lost}). If it is a worker that should run alone, import "
            "distopt in the program before it starts the worker. If it was started by a wrapper, start "
            "the program with os.execv, or with subprocess.run(..., close_fds=False)."
        )
    try:
        if "mpi4py.MPI" not in sys.modules:  # else the program's own import has started MPI
            allow_for_containers()
            receive_in_large_parts()
            with startup_watchdog(settings, job):
                _start(job)
        from mpi4py import MPI
    except LaunchError:
        raise
    except (ImportError, RuntimeError) as error:
        raise _missing(error) from error
    require_running(MPI)
    if job is not None and job.size > 1 and MPI.COMM_WORLD.size == 1:
        MPI.Finalize()
        raise _foreign(job, MPI, "MPI.COMM_WORLD has size 1")
    guard_finalization(MPI)
    disconnect()
    return MPI


def _missing(error: Exception) -> MissingExtra:
    """The error if mpi4py is not installed, or cannot load its MPI library."""
    if importlib.util.find_spec("mpi4py") is None:
        return MissingExtra.of("running under MPI", "mpi4py", "mpich")
    return MissingExtra(
        f"running under MPI needs an MPI library, and mpi4py cannot load one: {str(error).strip()}. "
        "On a cluster load the module of the site's MPI, and install mpi4py for it: "
        "pip install --no-binary mpi4py mpi4py. "
        f"Elsewhere: pip install mpich",
        name="mpi4py.MPI",
    )


def _start(job: Launched | None) -> None:
    """Imports ``mpi4py.MPI``, which initializes MPI.

    Raises:
        LaunchError: Open MPI's mpirun started this process, and MPI is MPICH without PMIx. In this case,
            MPI_Init would end the process with a message that does not say why.
    """
    import mpi4py

    later = job is not None and job.variable == "OMPI_COMM_WORLD_SIZE" and mpi4py.rc.initialize
    if later:
        mpi4py.rc.initialize, mpi4py.rc.finalize = False, mpi4py.rc.finalize is not False
    from mpi4py import MPI

    if later:
        mpi4py.rc.initialize = True
        if MPI.get_vendor()[0] == "MPICH" and "pmix" not in MPI.Get_library_version().lower():
            raise _foreign(job, MPI, "MPI cannot be initialized")
        if mpi4py.rc.threads:
            MPI.Init_thread(getattr(MPI, f"THREAD_{mpi4py.rc.thread_level.upper()}"))
        else:
            MPI.Init()


def _foreign(job: Launched | None, mpi: Any, what: str) -> LaunchError:
    assert job is not None
    return LaunchError(
        f"{job.launcher} says that it started {job.size} processes ({job.variable}={job.size}), but {what}: "
        f"the launcher belongs to another MPI than the one that mpi4py loads "
        f"({mpi.Get_library_version().split(chr(10))[0].strip()}). Start the job with that MPI's own "
        f"mpiexec, or with distoptrun, which finds it."
    )
