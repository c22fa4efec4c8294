"""Ending a job: first asked for, then, after a grace, forced; nothing is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from .verdict import Verdict

_LAST = 1.0  # from the replicas' SIGKILL to that of the launcher


@dataclass(frozen=True)
class Reason:
    """Why a job is ended.

    Attributes:
        name: ``interrupt``, ``terminate``, ``timeout`` or ``failure``.
        signal: what the replicas get first; 0 for nothing.
        grace: seconds until they are killed.
    """

    name: str
    signal: int
    grace: float


class Stop:
    """The ending of one job.

    Args:
        process: the MPI launcher; leads a process group of its own.
        verdict: knows the replicas.
    """

    def __init__(self, process: subprocess.Popen[bytes], verdict: Verdict) -> None:
        self._process, self._verdict = process, verdict
        self.reason: Reason | None = None
        self._force_at = float("inf")
        self._last_at = float("inf")

    def ask(self, reason: Reason) -> None:
        """Begins the ending; a second reason only shortens the grace (Ctrl-C twice: to nothing)."""
        now = time.monotonic()
        if self.reason is None or self.reason.name == "failure":
            self.reason = reason
            self._force_at = min(self._force_at, now + reason.grace)
            if reason.signal:
                self._signal(reason.signal)
        elif reason.name == "interrupt":
            self._force_at = now
        self.proceed()

    def proceed(self) -> None:
        """Takes the steps whose time has come."""
        now = time.monotonic()
        if now >= self._force_at:
            self._force_at, self._last_at = float("inf"), now + _LAST
            self.kill_replicas()
            _signal_group(self._process, signal.SIGTERM)
        elif now >= self._last_at:
            self._last_at = now + _LAST
            self.kill_replicas()
            _signal_group(self._process, signal.SIGKILL)

    @property
    def wait(self) -> float:
        """Seconds until the next step; infinity if there is none."""
        return max(0.0, min(self._force_at, self._last_at) - time.monotonic())

    def kill_replicas(self) -> None:
        """Kills every replica on this machine, with all that it started."""
        for pid, guardian in self._verdict.running.values():
            _kill(os.killpg, pid)
            if time.monotonic() >= self._last_at:
                _kill(os.kill, guardian)

    def _signal(self, number: int) -> None:
        running = self._verdict.running
        if len(self._verdict.pids) < self._verdict.size or not running:
            _signal_group(self._process, number)  # not all have begun, or some are elsewhere: it passes it on
            return
        for pid, _guardian in running.values():
            with suppress(ProcessLookupError):
                os.kill(pid, number)


def _kill(call: Callable[[int, int], None], pid: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        call(pid, signal.SIGKILL)


def _signal_group(process: subprocess.Popen[bytes], number: int) -> None:
    if process.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
