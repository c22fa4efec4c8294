"""Shutdown: ends a job, first with a signal, and after a grace period by killing all its processes."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from .job_state import JobState

_LAST = 1.0  # seconds from the replicas' SIGKILL to the launcher's


@dataclass(frozen=True)
class ShutdownReason:
    """Why a job is ended, and how.

    Attributes:
        name: ``interrupt`` (Ctrl-C), ``terminate`` (SIGTERM or SIGHUP), ``timeout``, ``unread`` (the reader
            of standard output exited), ``failure`` (a replica failed) or ``over`` (all replicas have ended).
        signal: the signal that is sent to the replicas first; 0 for none.
        grace: seconds until they are killed.
    """

    name: str
    signal: int
    grace: float


class Shutdown:
    """Ends one job.

    Args:
        process: the MPI launcher, the leader of its process group.
        state: the state of the replicas.

    Attributes:
        reason: why the job is being ended; None if it is not.
        forced: whether the MPI launcher has been told to end.
    """

    def __init__(self, process: subprocess.Popen[bytes], state: JobState) -> None:
        self._process, self._state = process, state
        self._to_forward: set[int] = set()
        self.reason: ShutdownReason | None = None
        self.forced = False
        #: When to kill the replicas and end the MPI launcher.
        self._force_at = float("inf")
        #: When to kill the MPI launcher.
        self._last_at = float("inf")

    def request(self, reason: ShutdownReason) -> None:
        """Starts to end the job. Another Ctrl-C ends the grace period."""
        now = time.monotonic()
        if self.reason is None or self.reason.name in ("failure", "over"):
            self.reason = reason
            self._force_at = min(self._force_at, now + reason.grace)
            if reason.signal:
                self._signal(reason.signal)
        elif reason.name == "interrupt":
            self._force_at = now
        self.proceed()

    def forward(self, number: int) -> None:
        """Sends a signal to every replica's program, once all have started."""
        self._to_forward.add(number)
        self.proceed()

    def suspend(self) -> None:
        """Stops this process and the replicas on this machine until SIGCONT.

        Replicas on other machines are not stopped, but wait for those here.
        """
        self._signal_groups(signal.SIGSTOP)
        os.kill(os.getpid(), signal.SIGSTOP)
        self.resume()

    def resume(self) -> None:
        """Continues the replicas."""
        self._signal_groups(signal.SIGCONT)

    def proceed(self) -> None:
        """Takes the steps that are due."""
        now = time.monotonic()
        if self._to_forward and len(self._state.started) == self._state.size:
            for number in self._to_forward:
                self._deliver(number)
            self._to_forward.clear()
        if now >= self._force_at:
            self._force_at, self._last_at = float("inf"), now + _LAST
            self.forced = True
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
        """Kills every replica on this machine, with its process group."""
        for pid, supervisor in self._state.running.values():
            _send(os.killpg, pid, signal.SIGKILL)
            if time.monotonic() >= self._last_at:
                _send(os.kill, supervisor, signal.SIGKILL)

    def _signal_groups(self, number: int) -> None:
        for pid, _supervisor in self._state.running.values():
            _send(os.killpg, pid, number)

    def _deliver(self, number: int) -> None:
        if len(self._state.pids) == self._state.size:
            for pid, _supervisor in self._state.running.values():
                _send(os.kill, pid, number)
        else:  # through the MPI launcher and the supervisors, so that no replica gets it twice
            self._process.send_signal(number)

    def _signal(self, number: int) -> None:
        running = self._state.running
        if len(self._state.pids) < self._state.size or not running:
            # Not all have started, or some are on other machines: the MPI launcher forwards the signal.
            _signal_group(self._process, number)
            return
        for pid, _supervisor in running.values():
            _send(os.kill, pid, number)


def _send(call: Callable[[int, int], None], pid: int, number: int) -> None:
    # The process may have ended, and its PID may now be another user's.
    with suppress(ProcessLookupError, PermissionError):
        call(pid, number)


def _signal_group(process: subprocess.Popen[bytes], number: int) -> None:
    if process.poll() is None:
        _send(os.killpg, process.pid, number)
