"""Starts jobs as people do, each with a hard limit; nothing of them may be left behind."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

LIMIT = 250.0  # eight processes on two busy cores, which compile their kernels first
MPIEXEC = Path(sys.executable).parent / "mpiexec"


@dataclass
class Done:
    """A job that has ended.

    Attributes:
        code: its exit code.
        out: what it printed.
        err: what it printed as errors.
        seconds: how long it took.
    """

    code: int
    out: str
    err: str
    seconds: float


def environment(**variables):
    """The environment of a program that no launcher started, plus ``variables``."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(
            ("PMI_", "OMPI_COMM_WORLD_", "OMPI_UNIVERSE_", "SLURM_", "DISTOPT_", "HYDI_", "MPI")
        )
    }
    return {**inherited, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1", **variables}


def start(command, **variables):
    return subprocess.Popen(
        [str(word) for word in command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(**variables),
        start_new_session=True,
    )


def finish(process, begin, limit=LIMIT):
    """Waits for a job, and ends it all when it does not end by itself."""
    try:
        out, err = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
        raise AssertionError(f"the job did not end within {limit} s:\n{out}\n{err}") from None
    return Done(process.returncode, out, err, time.monotonic() - begin)


def run(command, limit=LIMIT, **variables):
    """Runs a command to its end."""
    begin = time.monotonic()
    return finish(start(command, **variables), begin, limit)


def python(*words):
    return [sys.executable, *words]


def mpi(processes, *words):
    return [MPIEXEC, "-n", processes, sys.executable, *words]


def inprocess(replicas, script):
    return ["-m", "distopt.testing.inprocess", "--replicas", replicas, script]


def alive(pid):
    """Whether a process is still there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def gone(pids, seconds=10.0):
    """Waits until none of the processes is left; those that are."""
    end = time.monotonic() + seconds
    while any(map(alive, pids)) and time.monotonic() < end:
        time.sleep(0.05)
    return not [pid for pid in pids if alive(pid)]
