"""What started this process: an MPI launcher, a replica of its job, or neither.

A replica's children (worker pools, other programs) inherit the launcher's variables. So the first process
that imports distopt sets a variable of its own, by which its children know that they are not in the job.
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
    "JobId",
    "Launched",
    "allow_for_containers",
    "by_distoptrun",
    "claim",
    "disconnect",
    "end_before_mpi",
    "is_child",
    "job_ids",
    "launched",
    "lost_connection",
    "receive_in_large_parts",
    "shown_on_terminal",
    "telemetry",
    "timeline_steps",
]

#: The replica's "pid:socket:launch ID".
_MARK = "DISTOPT_LAUNCH_REPLICA"
#: Variables that tell a job from another one that is started from within it.
_LAUNCH_ID_VARIABLES = (
    "PMI_SIZE",
    "PMI_RANK",
    "PMI_JOBID",
    "PMIX_NAMESPACE",
    "SLURM_STEP_ID",
    "OMPI_COMM_WORLD_SIZE",
)
#: How an MPI reaches its launcher, which one process can do once. Without them MPI starts alone.
_SOCKET = "PMI_FD"
_CONNECTION = (_SOCKET, "PMI_PORT", "PMIX_NAMESPACE", "PMIX_SERVER_URI")


@dataclass(frozen=True)
class Launched:
    """What an MPI launcher tells a process about its job.

    Attributes:
        launcher: the launcher's name, for messages.
        size: the number of processes.
        variable: the environment variable that holds the size.
        rank: this process's rank; None if the launcher does not say.
    """

    launcher: str
    size: int
    variable: str
    rank: int | None = None


#: Each launcher's variables for size and rank; a third variable must be a number too, if given.
_SIZE_VARIABLES = (
    ("OMPI_COMM_WORLD_SIZE", "Open MPI's mpirun", "OMPI_COMM_WORLD_RANK", None),
    ("PMI_SIZE", "MPICH's mpiexec or a PMI launcher", "PMI_RANK", "PMI_RANK"),
    ("SLURM_STEP_NUM_TASKS", "srun", "SLURM_PROCID", "SLURM_STEP_ID"),
)


def launched(environ: Mapping[str, str] | None = None) -> Launched | None:
    """The launcher that started this process; None if there was none, or in a child of a replica."""
    env = os.environ if environ is None else environ
    if environ is None and is_child():
        return None
    for variable, launcher, number, needed in _SIZE_VARIABLES:
        text, rank = env.get(variable, ""), env.get(number, "")
        if text.isdigit() and (needed is None or env.get(needed, "").isdigit()):
            return Launched(launcher, int(text), variable, int(rank) if rank.isdigit() else None)
    return None


def by_distoptrun() -> bool:
    """Whether distoptrun started the job, which sorts what the replicas say at the end."""
    return "DISTOPT_LAUNCH_SIZE" in os.environ and not is_child()


def shown_on_terminal() -> bool:
    """Whether the launcher shows this process's output on a terminal, though it is a pipe here."""
    return bool(os.environ.get("DISTOPT_LAUNCH_TTY")) and not is_child()


def telemetry() -> tuple[int, int] | None:
    """Where distoptrun wants telemetry, if it does: the descriptor, and this process's rank."""
    descriptor, _, rank = os.environ.get("DISTOPT_LAUNCH_TELEMETRY", "").partition(":")
    if not (descriptor.isdigit() and rank.isdigit()) or is_child():
        return None
    return int(descriptor), int(rank)


def timeline_steps() -> tuple[int, int] | None:
    """The steps whose spans distoptrun wants: the first, and the one to stop before; None for none."""
    for wish in os.environ.get("DISTOPT_LAUNCH_WISHES", "").split():
        name, _, value = wish.partition("=")
        first, _, stop = value.partition(":")
        if name == "timeline" and first.isdigit() and stop.isdigit():
            return int(first), int(stop)
    return None


def claim() -> None:
    """Marks this process as the replica that the launcher started, unless it is a child of one.

    Called when distopt is imported.
    """
    if is_child():
        os.environ.setdefault(_MARK, f"{os.getppid()}::")  # for what a worker starts
        disconnect()
    elif launched() is not None:
        os.environ[_MARK] = f"{os.getpid()}:{_socket()}:{_launch_id()}"
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
    connection, _, launch_id = launch.partition(":")
    # Otherwise a launcher has started it, as a process of another job.
    return not _connected() or (launch_id == _launch_id() and _socket() in ("", connection))


def _is_worker() -> bool:
    """Whether `multiprocessing` started this process, even before its parent imported distopt.

    Then the parent has set no variable yet, and a forked worker holds its connection to the launcher.
    """
    process = sys.modules.get("multiprocessing.process")
    return process is not None and process.parent_process() is not None


def disconnect() -> None:
    """Hides the connection to the launcher from this process and its children."""
    for name in [name for name in os.environ if name.startswith(_CONNECTION)]:
        del os.environ[name]


def end_before_mpi(code: int) -> None:
    """Asks MPICH's launcher to end the job, with an exit code, before MPI has used the connection to it.

    It does not end a job by itself when a process fails that has not started MPI: others would wait there.
    Open MPI's does, and is not asked.
    """
    if launched() is not None and _socket():
        with suppress(OSError):
            os.write(int(os.environ[_SOCKET]), f"cmd=abort exitcode={code}\n".encode())


def lost_connection() -> str:
    """The variable that would lead MPI to a closed connection, as ``NAME=value``; otherwise empty."""
    descriptor = os.environ.get(_SOCKET, "")
    return f"{_SOCKET}={descriptor}" if descriptor and not _socket() else ""


def allow_for_containers() -> None:
    """Keeps MPICH from reading other processes' memory by PID if each process has its own container.

    Call it before MPI starts. In containers PIDs mean other processes, so MPICH's messages of some kilobytes
    and more would fail. There the launcher's PID is not visible: the kernel reports 0.
    """
    if not hasattr(socket, "SO_PEERCRED") or not _socket():
        return
    with socket.socket(fileno=os.dup(int(os.environ[_SOCKET]))) as launcher:
        if launcher.family == socket.AF_UNIX:
            pid, _, _ = struct.unpack("3i", launcher.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
            if pid == 0:
                os.environ.setdefault("MPIR_CVAR_CH4_CMA_ENABLE", "0")


def receive_in_large_parts() -> None:
    """Has UCX, which carries messages in many MPIs, take up to 512 KB from a TCP connection at a time.

    Call it before MPI starts. UCX takes one part whenever somebody looks, 64 KB by default: with a look a
    millisecond, as during a backward pass, that is half of what a network of 1 Gbit/s brings. What the user
    has set stays; processes with other sizes understand each other.
    """
    os.environ.setdefault("UCX_TCP_RX_SEG_SIZE", "512k")


def _connected() -> bool:
    return any(name.startswith(_CONNECTION) for name in os.environ)


def _launch_id() -> str:
    return "/".join(os.environ.get(name, "") for name in _LAUNCH_ID_VARIABLES)


def _socket() -> str:
    """The identity of the socket to the launcher; empty if it is closed or not used."""
    with suppress(OSError, ValueError):
        status = os.fstat(int(os.environ.get(_SOCKET, "")))
        if stat.S_ISSOCK(status.st_mode):
            return f"{status.st_dev}-{status.st_ino}"
    return ""


@dataclass(frozen=True)
class JobId:
    """A job's ID in a batch system or launcher.

    Attributes:
        system: the batch system or launcher, e.g. ``"Slurm"``.
        number: the job's ID there.
        start: how often the job was restarted; -1 if the system does not say.
        meaningful: whether the ID is meaningful to users.
    """

    system: str
    number: str
    start: int
    meaningful: bool = True

    def same_as(self, other: JobId) -> bool:
        """Whether the other is the same job, possibly after a restart."""
        return (self.system, self.number) == (other.system, other.number)


#: Each system's variables: the job's ID, and how often it was restarted ("": it does not say).
_JOB_ID_VARIABLES = (
    ("Slurm", "SLURM_JOB_ID", "SLURM_RESTART_COUNT", True),
    ("PBS", "PBS_JOBID", "", True),
    ("LSF", "LSB_JOBID", "", True),
    ("distoptrun", "DISTOPT_LAUNCH_JOB", "DISTOPT_LAUNCH_RESTART", False),
)


def job_ids(environ: Mapping[str, str] | None = None) -> tuple[JobId, ...]:
    """The IDs of the job that this process belongs to, from batch system and launcher."""
    env = os.environ if environ is None else environ
    found = []
    for system, number, count, meaningful in _JOB_ID_VARIABLES:
        if name := env.get(number, ""):
            text = env.get(count, "0") if count else "-1"
            found.append(JobId(system, name, int(text) if text.lstrip("-").isdigit() else 0, meaningful))
    return tuple(found)
