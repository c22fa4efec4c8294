"""The faults of ``faults``, and the expected result of each."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chaos.jobs import launch_command

__all__ = ["Fault", "faults"]

_PROLOGUE = """
import os, resource, signal, sys, time
import numpy as np
from distopt import Variable
from distopt.distribute import get_replica_context
from distopt.optimizers import Adam
context = get_replica_context()
rank = context.replica_id_in_sync_group
v, optimizer = Variable(np.ones(100_000), name="v"), Adam(0.1)
def step():
    optimizer.apply_gradients([(np.full(100_000, 1.0 + rank), v)])
def limit(what, more):
    used = int(open("/proc/self/statm").read().split()[0]) * 4096 if what == resource.RLIMIT_AS else 0
    resource.setrlimit(what, (used + more, used + more))
"""
_EPILOGUE = """
if rank == 0:
    print(f"the sum of the weights is {v.numpy().sum():.1f}", flush=True)
"""


@dataclass(frozen=True)
class Fault:
    """One fault and its expected result.

    Attributes:
        name: shown in the table.
        program: what the replicas run between prologue and epilogue; the whole program if ``bare``.
        code: the expected exit code.
        says: pattern to be found in standard error; "" if that has to be empty.
        most: how often it may be found at most.
        goes_on: whether the job still has to end with the right weights.
        words: makes the command from the program's file; ``distoptrun -n 2`` by default.
        environ: further variables.
        bound: whether even root may not write what is not writable.
        seconds: time limit, including the start; of the long form.
        short: whether it is part of the short form.
    """

    name: str
    program: str
    code: int
    says: str
    most: int = 1
    goes_on: bool = False
    bare: bool = False
    words: Callable[[Path], list[Any]] = lambda file: launch_command("-n", 2, file)
    environ: dict[str, str | None] = field(default_factory=dict)
    bound: bool = False
    seconds: float = 15.0
    short: bool = False

    @property
    def text(self) -> str:
        """The whole program."""
        return self.program if self.bare else _PROLOGUE + self.program + _EPILOGUE


_NO_ROOM = """
import resource
from mpi4py import MPI
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
"""

_LIMITS: dict[str, str | None] = {"DISTOPT_STALL_SECONDS": "1", "DISTOPT_ABORT_SECONDS": "3"}

_SAVES = """
from distopt.checkpoint import CheckpointManager
place = os.path.dirname(os.path.abspath(__file__))
manager = CheckpointManager(place + "/saved", variables=[v], optimizer=optimizer)
step(); manager.save()
limit(resource.RLIMIT_FSIZE, 4096)
try:
    step(); manager.save()
except Exception as error:
    if rank == 0:
        print(error, file=sys.stderr)
assert len(manager.checkpoints) == 1
assert manager.restore()  # the one before is whole
"""


def faults(place: Path) -> list[Fault]:
    """All faults."""
    return [*_of_replicas(), *_of_mpi(place), *_of_the_machine(place), *_of_the_command_line()]


def _of_replicas() -> list[Fault]:
    one = "step()\nif rank == 1:\n    {}\nstep()"
    return [
        Fault("a replica raises", one.format("raise ValueError('mine')"), 1, r"(?m)^\[1\] ValueError: mine$"),
        Fault(
            "a replica calls os._exit(7)", one.format("os._exit(7)"), 7, "replica 1 ended with exit code 7"
        ),
        Fault(
            "a replica is killed, as for want of memory",
            one.format("os.kill(os.getpid(), signal.SIGKILL)"),
            137,
            r"replica 1 was killed by signal 9 \(SIGKILL\)",
        ),
        Fault(
            "a replica crashes in compiled code",
            one.format("import ctypes; ctypes.string_at(0)"),
            139,
            r"replica 1 was killed by signal 11 \(SIGSEGV\)",
        ),
        Fault(
            "a replica gets no more memory (RLIMIT_AS)",
            one.format("limit(resource.RLIMIT_AS, 200 << 20); np.ones(10**9)"),
            1,
            r"(?m)^\[1\] .*MemoryError: .*$",
            short=True,
        ),
        Fault(
            "a replica ends early",
            one.format("sys.exit()"),
            1,
            "replica 1: the end of its program",
            most=2,  # in replica 1's own words, and in replica 0's exception
            short=True,
        ),
        Fault(
            "a replica loops for ever",
            one.format("\n    while True: pass"),
            1,
            r"waiting for \d+ s, for replica 1",
            most=3,  # as a warning, at the abort limit, perhaps in an exception
            environ=_LIMITS,
            short=True,
        ),
        Fault(
            "all replicas miss a module",
            "import no_such_module",
            1,
            r"replicas? [01] raised ModuleNotFoundError|ModuleNotFoundError; replica 1 the same",
        ),
    ]


def _of_mpi(place: Path) -> list[Fault]:
    other = place / "other"
    other.mkdir()
    _write_foreign_mpiexec(other / "mpiexec")
    path = f"{other}{os.pathsep}{os.environ.get('PATH', '')}"
    return [
        Fault(
            "mpiexec of another MPI starts the program",
            "",
            1,
            r"the launcher belongs to another MPI than the one that mpi4py loads",
            words=lambda file: [other / "mpiexec", "-n", 2, sys.executable, file],
            short=True,
        ),
        Fault(
            "mpiexec of another MPI is first on PATH",
            "step()\nif rank == 0: print('found the right one', file=sys.stderr)",
            0,
            "found the right one",
            goes_on=True,
            environ={"PATH": path},
        ),
    ]


def _of_the_machine(place: Path) -> list[Fault]:
    read_only = _read_only(place / "read-only")
    return [
        Fault(
            "no room in shared memory",
            _NO_ROOM + _PROLOGUE + "step()" + _EPILOGUE,
            0,
            r"distopt: no shared memory on this node \(.*\)",
            goes_on=True,
            bare=True,
            short=True,
        ),
        Fault(
            "no more room in shared memory",
            "limit(resource.RLIMIT_FSIZE, 4096)\nstep()",
            1,
            "MemoryError: no room for 800,000 more bytes of shared memory on this node",
            most=2,  # all replicas raise it
        ),
        Fault(
            "the disk is full when saving",
            _SAVES,
            0,
            "the checkpoint could not be written: File too large",
            goes_on=True,
        ),
        Fault(
            "neither home nor package can be written",
            "step()",
            0,
            "",
            goes_on=True,
            environ={
                "HOME": str(read_only / "home"),
                "PYTHONPATH": str(read_only),
                "NUMBA_CACHE_DIR": None,
                "XDG_CACHE_HOME": None,
            },
            bound=True,
            seconds=60.0,
            short=True,
        ),
    ]


def _read_only(place: Path) -> Path:
    """A read-only copy of the packages, with a read-only home."""
    for package in ("distopt", "distopt_launch"):
        spec = importlib.util.find_spec(package)
        assert spec is not None
        assert spec.origin is not None
        no_cache = shutil.ignore_patterns("__pycache__")
        shutil.copytree(Path(spec.origin).parent, place / package, ignore=no_cache)
    (place / "home").mkdir()
    for directory, _, _ in os.walk(place):
        os.chmod(directory, 0o555)
    return place


def _of_the_command_line() -> list[Fault]:
    return [
        Fault(
            "a host that does not exist",
            "",
            255,
            "(?m)^.*no-such-host.invalid.*$",
            words=lambda file: launch_command("-n", 2, "-H", "no-such-host.invalid:2", file),
        ),
        Fault(
            "a script that does not exist",
            "",
            2,
            "cannot open the script '.*': No such file or directory",
            words=lambda file: launch_command("-n", 2, file.with_name("no_such_program.py")),
            seconds=5.0,
        ),
        Fault("a syntax error", "x = (", 1, "SyntaxError: '\\(' was never closed", bare=True, seconds=5.0),
    ]


def _write_foreign_mpiexec(file: Path) -> None:
    """Writes a script that starts processes as Open MPI's mpiexec does, and reports its version."""
    shell = shutil.which("sh") or "/bin/sh"
    file.write_text(
        f"""#!{shell}
[ "$1" = --version ] && echo "mpiexec (OpenRTE) 4.1.4" && exit 0
shift 2
OMPI_COMM_WORLD_SIZE=2 OMPI_COMM_WORLD_RANK=0 "$@" & first=$!
OMPI_COMM_WORLD_SIZE=2 OMPI_COMM_WORLD_RANK=1 "$@" 2>/dev/null
wait $first
"""
    )
    file.chmod(0o755)
