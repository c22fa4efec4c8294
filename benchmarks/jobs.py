"""Starts a benchmark's own replicas, with a hard limit of time."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

__all__ = ["ROOT", "JobFailed", "environment", "free_port", "launcher", "run", "run_command", "worker_words"]

ROOT = Path(__file__).resolve().parent.parent

_THREADS = ("OMP", "OPENBLAS", "MKL", "NUMBA", "BLIS", "VECLIB", "NUMEXPR")


class JobFailed(RuntimeError):
    """A job ended badly or took too long; the text is its last words."""


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of all jobs: one thread each, Gloo on the loopback, this Python's programs first."""
    threads = {f"{name}_NUM_THREADS": "1" for name in _THREADS}
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    return {**os.environ, **threads, "GLOO_SOCKET_IFNAME": "lo", "PATH": path, **(extra or {})}


def launcher(replicas: int) -> list[str]:
    """The words that start ``replicas`` processes on this machine, also more than it has cores."""
    mpiexec = shutil.which("mpiexec", path=environment()["PATH"])
    if mpiexec is None:
        raise JobFailed("no mpiexec was found: install an MPI, e.g. pip install mpi4py mpich")
    words = [mpiexec, "-n", str(replicas)]
    return words + (["--oversubscribe", "--allow-run-as-root"] if _is_open_mpi(mpiexec) else [])


@cache
def _is_open_mpi(mpiexec: str) -> bool:
    said = subprocess.run([mpiexec, "--version"], capture_output=True, text=True, timeout=30, check=False)
    return "Open MPI" in said.stdout or "OpenRTE" in said.stdout


def worker_words(benchmark: str, folder: str | Path, config: Any) -> list[str]:
    """The words that run a benchmark's ``work(config)``; its result goes to ``folder/result.json``."""
    Path(folder, "config.json").write_text(json.dumps(config))
    return [sys.executable, "-m", "benchmarks.worker", benchmark, str(folder)]


def run(
    benchmark: str,
    config: Any,
    replicas: int | None,
    timeout: float,
    env: Mapping[str, str] | None = None,
    prefix: Sequence[str] = (),
) -> Any:
    """Runs ``benchmarks.<benchmark>.work(config)`` on all replicas; returns what replica 0 returned.

    Args:
        benchmark: the module's name.
        config: what JSON can hold.
        replicas: None for one process that no launcher started.
        timeout: seconds.
        env: further environment variables.
        prefix: words in place of the launcher's.

    Raises:
        JobFailed: the job ended with an error, or not in time.
    """
    with tempfile.TemporaryDirectory(prefix="distopt-bench-") as folder:
        start = list(prefix) or ([] if replicas is None else launcher(replicas))
        run_command([*start, *worker_words(benchmark, folder, config)], timeout, environment(env))
        return json.loads(Path(folder, "result.json").read_text())


def run_command(words: Sequence[str], timeout: float, env: Mapping[str, str]) -> str:
    """Runs a command in the repository's root; returns what it printed.

    Raises:
        JobFailed: an exit code other than 0, or not in time; nothing is left running then.
    """
    process = subprocess.Popen(
        words,
        cwd=ROOT,
        env=dict(env),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        said, _ = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        raise JobFailed(f"not finished after {timeout:.0f} s: {' '.join(words)}\n{_end(process)}") from None
    except BaseException:
        _end(process)
        raise
    if process.returncode:
        raise JobFailed(f"exit code {process.returncode}: {' '.join(words)}\n{said[-4000:]}")
    return said


def _end(process: subprocess.Popen[str]) -> str:
    """Ends a job: its launcher first gets the chance to end what it started; its last words."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            return (process.communicate(timeout=5)[0] or "")[-4000:]
        except ProcessLookupError:
            return ""
        except subprocess.TimeoutExpired:
            continue
    return ""


def free_port() -> int:
    """A port of the loopback that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
