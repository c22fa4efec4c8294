"""Jobs for fault injection, each with a time limit, and the search for what they leave behind."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["ROOT", "CompletedJob", "Job", "folder", "launch_command", "start"]

ROOT = Path(__file__).resolve().parent.parent

_PR_CAPBSET_DROP, _CAP_DAC_OVERRIDE = 24, 1
_MARK = "CHAOS_JOB"
_SEGMENT = re.compile(r"/dev/shm/\S+")
_LOOK = 0.1  # seconds between two looks at the processes
_AFTERWARDS = 2.0  # seconds for killed processes to be gone


@dataclass(frozen=True)
class CompletedJob:
    """How a job ended.

    Attributes:
        code: its exit code.
        seconds: its duration.
        left: descriptions of what it left behind.
    """

    code: int
    out: str
    err: str
    seconds: float
    left: list[str]

    @property
    def restarts(self) -> int:
        """How often distoptrun restarted it."""
        return self.err.count("; starting again (")


class Job:
    """A running job; all its processes have its mark in the environment.

    Args:
        words: the command.
        scratch: its folder for temporary files.
        environ: further variables; None removes one.
        bound: whether even root may not write what is not writable.
    """

    def __init__(
        self, words: Sequence[str], scratch: Path, environ: Mapping[str, str | None], bound: bool
    ) -> None:
        self._mark, self._scratch = uuid.uuid4().hex, scratch
        self._segments: set[str] = set()
        self._looked = 0.0
        settings = {**_clean(), "TMPDIR": str(scratch), _MARK: self._mark, **environ}
        self._out, self._err = (tempfile.TemporaryFile(dir=scratch.parent) for _ in range(2))  # noqa: SIM115
        self.begin = time.monotonic()
        self.process = subprocess.Popen(
            words,
            cwd=ROOT,
            env={name: value for name, value in settings.items() if value is not None},
            stdin=subprocess.DEVNULL,
            stdout=self._out,
            stderr=self._err,
            preexec_fn=_drop_override if bound else None,
        )

    def pids(self) -> list[int]:
        """The PIDs of its running processes."""
        wanted = f"{_MARK}={self._mark}".encode()
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with suppress(OSError):
                    if wanted in (entry / "environ").read_bytes().split(b"\0"):
                        found.append(int(entry.name))
        return found

    def until(self, true: Callable[[], Any], limit: float = 60.0) -> bool:
        """Waits until ``true()``; False if the job ends before, or after ``limit`` seconds."""
        end = time.monotonic() + limit
        while time.monotonic() < end:
            if true():
                return True
            if self.process.poll() is not None:
                return False
            self._look()
            time.sleep(0.0001)
        return False

    def _look(self) -> None:
        """From time to time, records the named shared memory of the job's processes."""
        if time.monotonic() < self._looked + _LOOK:
            return
        self._looked = time.monotonic()
        for pid in self.pids():
            with suppress(OSError):
                self._segments |= set(_SEGMENT.findall(Path(f"/proc/{pid}/maps").read_text()))

    def pause(self, seconds: float) -> None:
        """Waits while it runs."""
        self._look()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(seconds)

    def stderr(self) -> str:
        """Its standard error so far."""
        self._err.seek(0)
        return self._err.read().decode(errors="replace")

    def finish(self, limit: float = 90.0) -> CompletedJob:
        """Waits for the end; ``limit`` seconds after the start, kills the job, with exit code -1."""
        code = -1
        while time.monotonic() < self.begin + limit:
            self._look()
            with suppress(subprocess.TimeoutExpired):
                code = self.process.wait(_LOOK)
                break
        seconds = time.monotonic() - self.begin
        left = self._left() if code != -1 else [f"not ended after {limit:g} s"]
        self.end()
        self._out.seek(0)
        done = CompletedJob(code, self._out.read().decode(errors="replace"), self.stderr(), seconds, left)
        self._out.close()
        self._err.close()
        return done

    def end(self) -> None:
        """Kills what is still running."""
        for pid in self.pids():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()

    def _left(self) -> list[str]:
        deadline = time.monotonic() + _AFTERWARDS
        while (pids := self.pids()) and time.monotonic() < deadline:
            time.sleep(0.02)
        # Memory without a name vanishes with the processes.
        left = [f"process {pid}: {_command(pid)}" for pid in pids]
        left += [f"shared memory {name}" for name in sorted(self._segments) if os.path.exists(name)]
        return left + [f"file {file.name}" for file in self._scratch.iterdir()]


def start(
    words: Sequence[Any],
    place: Path,
    environ: Mapping[str, str | None] | None = None,
    bound: bool = False,
) -> Job:
    """Starts a job with temporary files in ``place``."""
    scratch = place / "tmp"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    return Job([str(word) for word in words], scratch, environ or {}, bound)


def launch_command(*words: Any) -> list[Any]:
    """The command line of ``distoptrun``."""
    return [sys.executable, "-m", "distopt_launch", *words]


@contextmanager
def folder() -> Iterator[Path]:
    """A temporary folder for a scenario's files, private to this user."""
    with tempfile.TemporaryDirectory(prefix="distopt-chaos-") as path:
        yield Path(path)


def _clean() -> dict[str, str]:
    """This environment without the variables of an outer job, with one thread per replica."""
    foreign = ("PMI_", "PMIX_", "OMPI_", "HYDI_", "SLURM_", "DISTOPT_", "MPI_LOCAL")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    return {**inherited, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


def _drop_override() -> None:
    """Drops root's right to ignore permissions, for this process and its children."""
    ctypes.CDLL(None).prctl(_PR_CAPBSET_DROP, _CAP_DAC_OVERRIDE, 0, 0, 0)


def _command(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return "gone"
