"""What started this process: an MPI launcher, a replica of its job, or neither.

A launcher's variables come down to all that a replica starts: worker pools, other programs. So the first
process that imports distopt leaves its mark, by which its children know themselves: each of them is alone.
"""

from __future__ import annotations

import os
import socket
import stat
import struct
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

__all__ = [
    "Job",
    "Launched",
    "allow_for_containers",
    "claim",
    "disconnect",
    "is_child",
    "jobs",
    "launched",
    "lost_connection",
    "shown_on_terminal",
]

#: The replica's "pid:socket:job".
_MARK = "DISTOPT_LAUNCH_REPLICA"
#: What tells one job from another that is started from within it.
_JOB = ("PMI_SIZE", "PMI_RANK", "PMI_JOBID", "PMIX_NAMESPACE", "SLURM_STEP_ID", "OMPI_COMM_WORLD_SIZE")
#: By what an MPI reaches its launcher, which one process can, once. Without them MPI starts alone.
_SOCKET = "PMI_FD"
_CONNECTION = (_SOCKET, "PMI_PORT", "PMIX_NAMESPACE", "PMIX_SERVER_URI")


@dataclass(frozen=True)
class Launched:
    """What an MPI launcher says of the job.

    Attributes:
        launcher: its name, for messages.
        size: the number of processes that it started.
        variable: the environment variable that says so.
        rank: this process's number; None if the launcher does not say.
    """

    launcher: str
    size: int
    variable: str
    rank: int | None = None


#: Where each launcher puts the number of processes and the process's own; a third variable must be a
#: number too, if named.
_SIZE_VARIABLES = (
    ("OMPI_COMM_WORLD_SIZE", "Open MPI's mpirun", "OMPI_COMM_WORLD_RANK", None),
    ("PMI_SIZE", "MPICH's mpiexec or a PMI launcher", "PMI_RANK", "PMI_RANK"),
    ("SLURM_STEP_NUM_TASKS", "srun", "SLURM_PROCID", "SLURM_STEP_ID"),
)


def launched(environ: Mapping[str, str] | None = None) -> Launched | None:
    """What started this process, or None when no MPI launcher did; also in a child of a replica."""
    env = os.environ if environ is None else environ
    if environ is None and is_child():
        return None
    for variable, launcher, number, needed in _SIZE_VARIABLES:
        text, rank = env.get(variable, ""), env.get(number, "")
        if text.isdigit() and (needed is None or env.get(needed, "").isdigit()):
            return Launched(launcher, int(text), variable, int(rank) if rank.isdigit() else None)
    return None


def shown_on_terminal() -> bool:
    """Whether the launcher shows this process's output on a terminal, though it is a pipe here."""
    return bool(os.environ.get("DISTOPT_LAUNCH_TTY")) and not is_child()


def claim() -> None:
    """Makes this process the replica that the launcher started, if it is no child of one.

    Called when distopt is imported.
    """
    if is_child():
        os.environ.setdefault(_MARK, f"{os.getppid()}::")  # for what a worker starts
        disconnect()
    elif launched() is not None:
        os.environ[_MARK] = f"{os.getpid()}:{_socket()}:{_job()}"
        mpi = sys.modules.get("mpi4py.MPI")
        if mpi is not None and mpi.Is_initialized():
            disconnect()


def is_child() -> bool:
    """Whether a replica started or forked this process, directly or not."""
    if _is_worker():
        return True
    pid, _, launch = os.environ.get(_MARK, "").partition(":")
    if not pid or pid == str(os.getpid()):
        return False
    connection, _, job = launch.partition(":")
    # Else a launcher has started it, as a process of a job of its own.
    return not _connected() or (job == _job() and _socket() in ("", connection))


def _is_worker() -> bool:
    """Whether `multiprocessing` started this process, also before its parent imported distopt.

    That parent has left no mark yet, and a worker that is forked holds its connection to the launcher.
    """
    process = sys.modules.get("multiprocessing.process")
    return process is not None and process.parent_process() is not None


def disconnect() -> None:
    """Keeps this process's children from the connection to the launcher, which it has used, or must not."""
    for name in [name for name in os.environ if name.startswith(_CONNECTION)]:
        del os.environ[name]


def lost_connection() -> str:
    """The variable by which MPI would look for its launcher in vain, with its value; else empty."""
    descriptor = os.environ.get(_SOCKET, "")
    return f"{_SOCKET}={descriptor}" if descriptor and not _socket() else ""


def allow_for_containers() -> None:
    """Keeps MPICH from reading others' memory by process number, where each process has its own container.

    To be called before MPI starts. In there the numbers mean other processes, so that MPICH's messages of
    some kilobytes and more would fail. The launcher's number cannot be seen in there: the kernel says 0.
    """
    if not hasattr(socket, "SO_PEERCRED") or not _socket():
        return
    with socket.socket(fileno=os.dup(int(os.environ[_SOCKET]))) as launcher:
        if launcher.family == socket.AF_UNIX:
            pid, _, _ = struct.unpack("3i", launcher.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
            if pid == 0:
                os.environ.setdefault("MPIR_CVAR_CH4_CMA_ENABLE", "0")


def _connected() -> bool:
    return any(name.startswith(_CONNECTION) for name in os.environ)


def _job() -> str:
    return "/".join(os.environ.get(name, "") for name in _JOB)


def _socket() -> str:
    """The identity of the socket to the launcher; empty if it is closed, or the launcher uses none."""
    with suppress(OSError, ValueError):
        status = os.fstat(int(os.environ.get(_SOCKET, "")))
        if stat.S_ISSOCK(status.st_mode):
            return f"{status.st_dev}-{status.st_ino}"
    return ""


@dataclass(frozen=True)
class Job:
    """What started this process calls the job.

    Attributes:
        system: who, e.g. ``"Slurm"``.
        number: the job's number there.
        start: which start of this job it is; -1 if the system does not say.
        told: whether the number says something to people.
    """

    system: str
    number: str
    start: int
    told: bool = True

    def same_as(self, other: Job) -> bool:
        """Whether the other is this job, in whatever start."""
        return (self.system, self.number) == (other.system, other.number)


#: Each system's variables: of the job's number, of how often it was started again ("": it does not say).
_JOB_VARIABLES = (
    ("Slurm", "SLURM_JOB_ID", "SLURM_RESTART_COUNT", True),
    ("PBS", "PBS_JOBID", "", True),
    ("LSF", "LSB_JOBID", "", True),
    ("distoptrun", "DISTOPT_LAUNCH_JOB", "DISTOPT_LAUNCH_RESTART", False),
)


def jobs(environ: Mapping[str, str] | None = None) -> tuple[Job, ...]:
    """The jobs that this process belongs to, by batch system and launcher."""
    env = os.environ if environ is None else environ
    found = []
    for system, number, count, told in _JOB_VARIABLES:
        if name := env.get(number, ""):
            text = env.get(count, "0") if count else "-1"
            found.append(Job(system, name, int(text) if text.lstrip("-").isdigit() else 0, told))
    return tuple(found)
