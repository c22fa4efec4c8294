"""The program that the MPI launcher starts for each process: forks the replica, and becomes its supervisor.

It first sets thread counts and binds the process to cores. The supervisor reports how the replica ended,
forwards signals, and kills processes that the replica leaves behind when the replica or the launcher has
ended. The command line is ``python start.py distopt_launch.child family=mpich threads=auto bind=auto
program=...``.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import NoReturn

from . import environment, signals
from .argv import decode_argv
from .cores import binding, cores, numa_nodes, threads, usable
from .errors import JobStartError
from .output_forwarder import OutputForwarder
from .pipes import open_stdin, open_writers
from .program import Program
from .protocol import Event
from .rank_info import RankInfo, rank_info
from .replica import run
from .supervisor import Supervisor

_PR_SET_PDEATHSIG = 1


def main() -> NoReturn:
    """Runs one process of the job; ``sys.argv`` comes from the launch plan."""
    settings = dict(argument.split("=", 1) for argument in sys.argv[1:])
    rest = decode_argv(sys.argv[1:])
    module = rest[0] == "-m"
    program = Program(rest[module], tuple(rest[module + 1 :]), module)
    environ = environment.inherited()
    try:
        here = rank_info(settings["family"], environ)
    except JobStartError as error:
        sys.exit(f"distoptrun: {error}")
    _prepare(settings, here, environ)
    _die_with_parent(os.getppid())
    signals.ignore(environ.get(environment.IGNORED, ""))
    folder = environ.get(environment.CHANNEL, "")
    pipes = open_writers(folder, here.rank)
    if pipes or here.rank:  # the MPI launcher forwards stdin only to a replica 0 on another machine
        _read_from(open_stdin(folder, here.rank))
    forwarder = None if pipes else OutputForwarder(here.rank)
    ends = forwarder.ends if forwarder else pipes
    assert ends is not None
    supervisor_pid = os.getpid()
    pid = os.fork()
    wishes = environ.get(environment.WISHES, "")
    if pid == 0:
        _die_with_parent(supervisor_pid)
        if wishes:
            environment.put({environment.TELEMETRY: f"{ends[2]}:{here.rank}"})
        if forwarder:
            forwarder.close_readers()
        run(program, here.rank, ends, leader=forwarder is None)
    supervisor = Supervisor(here.rank, pid, ends, forwarder)
    supervisor.report(Event("start", here.rank, (str(pid), str(supervisor_pid))))
    if wishes:
        from .feed import Feed  # imported only if needed, because it takes time to load

        threads_each = environment.inherited().get("OMP_NUM_THREADS", "")
        supervisor.feed = Feed(here.rank, pid, threads_each, supervisor.report)
    sys.stdout.flush()
    os._exit(supervisor.wait())


def _prepare(settings: dict[str, str], here: RankInfo, environ: dict[str, str]) -> None:
    """Sets threads, binding and environment variables, before NumPy is loaded."""
    available = cores()
    bound = binding(available, len(numa_nodes()), here.local_rank, here.local_size)
    if settings["bind"] == "auto" and bound:
        os.sched_setaffinity(0, bound)
    environment.put(threads(settings["threads"], usable(len(available)), here.local_size, environ))
    environment.put({environment.LAUNCHER: "distoptrun", environment.SIZE: str(here.size)})
    environment.drop(environment.CHANNEL)
    environment.drop(environment.IGNORED)


def _read_from(descriptor: int) -> None:
    """Makes the descriptor standard input."""
    os.dup2(descriptor, 0)
    if descriptor:
        os.close(descriptor)


def _die_with_parent(parent: int) -> None:
    """Asks Linux to kill this process when its parent ends, for whatever reason."""
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
