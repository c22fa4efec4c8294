"""What the MPI launcher starts for each process: sets the scene, forks the replica, and guards it.

The guardian stays behind to say truthfully how the replica ended, to pass signals on, and to end
everything that the replica leaves when it, or the launcher, is gone. The command line is
``python start.py distopt_launch.child family=mpich threads=auto bind=auto program=...``.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import NoReturn

from . import environment, signals
from .channel import News, reader, writers
from .cores import binding, cores, numa_nodes, threads, usable
from .errors import LaunchError
from .guardian import Guardian, Relay
from .place import Place, place
from .program import Program
from .replica import run
from .words import unpacked

_PR_SET_PDEATHSIG = 1


def main() -> NoReturn:
    """Runs one process of the job, with ``sys.argv`` as the plan gave it."""
    words = dict(word.split("=", 1) for word in sys.argv[1:])
    rest = unpacked(sys.argv[1:])
    module = rest[0] == "-m"
    program = Program(rest[module], tuple(rest[module + 1 :]), module)
    environ = environment.inherited()
    try:
        here = place(words["family"], environ)
    except LaunchError as error:
        sys.exit(f"distoptrun: {error}")
    _prepare(words, here, environ)
    _die_with_parent(os.getppid())
    signals.ignore(environ.get(environment.IGNORED, ""))
    folder = environ.get(environment.CHANNEL, "")
    pipes = writers(folder, here.rank)
    if pipes or here.rank:  # the MPI launcher carries standard input only to a replica 0 that is elsewhere
        _read_from(reader(folder, here.rank))
    relay = None if pipes else Relay(here.rank)
    ends = relay.ends if relay else pipes
    assert ends is not None
    guardian_pid = os.getpid()
    pid = os.fork()
    if pid == 0:
        _die_with_parent(guardian_pid)
        if relay:
            relay.forget()
        run(program, here.rank, ends, leader=relay is None)
    guardian = Guardian(here.rank, pid, ends, relay)
    guardian.tell(News("start", here.rank, (str(pid), str(guardian_pid))))
    sys.stdout.flush()
    os._exit(guardian.watch())


def _prepare(words: dict[str, str], here: Place, environ: dict[str, str]) -> None:
    """Threads, binding, and what the program is told; all before NumPy is loaded."""
    available = cores()
    bound = binding(available, len(numa_nodes()), here.local_rank, here.local_size)
    if words["bind"] == "auto" and bound:
        os.sched_setaffinity(0, bound)
    environment.put(threads(words["threads"], usable(len(available)), here.local_size, environ))
    environment.put({environment.LAUNCHER: "distoptrun", environment.SIZE: str(here.size)})
    environment.drop(environment.CHANNEL)
    environment.drop(environment.IGNORED)


def _read_from(descriptor: int) -> None:
    os.dup2(descriptor, 0)
    if descriptor:
        os.close(descriptor)


def _die_with_parent(parent: int) -> None:
    """Asks Linux to end this process when its parent ends, however that comes about."""
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
