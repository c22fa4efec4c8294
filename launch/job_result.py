"""JobReporter: determines the exit code of a job, and shows the errors that led to it."""

from __future__ import annotations

import re
import signal
from dataclasses import dataclass

from .demultiplexer import Demultiplexer
from .display import Display
from .job_state import JobState, signal_name

#: How the launchers of MPICH, Open MPI and Intel MPI report that a process was killed.
_SIGNAL = re.compile(
    rb"(?:TERMINATED WITH THE EXIT STRING: .*\(signal|exited\s+on\s+signal|KILLED BY SIGNAL:)\s+(\d{1,3})"
)
_TIMEOUT_CODE = 124  # like timeout(1)


@dataclass(frozen=True)
class JobResult:
    """How a job ended.

    Attributes:
        code: the exit code of ``distoptrun``.
        restart: whether the job may be restarted, because it failed by itself.
        how: how it ended, as text; "" if nothing is known but the code.
    """

    code: int
    restart: bool
    how: str = ""


class JobReporter:
    """Determines the result of a job that has ended, and shows what led to it.

    Args:
        launcher: the MPI launcher's file, for messages.
        display: where messages go.
        state: what the replicas have reported.
        incoming: holds the lines of the MPI launcher and the tracebacks.
    """

    def __init__(self, launcher: str, display: Display, state: JobState, incoming: Demultiplexer) -> None:
        self._launcher, self._display = launcher, display
        self._state, self._incoming = state, incoming

    def report(self, code: int, reason: str, forced: bool) -> JobResult:
        """Returns the result, and shows the tracebacks. That of the replica that failed first comes last.

        Args:
            code: the MPI launcher's exit code; 128 + signal if it was killed.
            reason: the name of the `ShutdownReason`; "" if the job ended by itself.
            forced: whether the MPI launcher had to be killed.
        """
        if reason == "interrupt":
            self._display.message("interrupted")
            return JobResult(130, restart=False, how="interrupted")
        self._state.conclude()
        first = self._state.first
        if reason in ("timeout", "unread"):
            self._show_tracebacks(first.rank if first else None)
            if reason == "timeout":
                return JobResult(_TIMEOUT_CODE, restart=False, how="the time limit was reached (--timeout)")
            return JobResult(
                128 + signal.SIGPIPE, restart=False, how="the reader of its standard output exited"
            )
        if reason == "terminate" and (first or code):
            self._show_tracebacks(first.rank if first else None)
            self._display.message("ended by SIGTERM")
            return JobResult(128 + signal.SIGTERM, restart=False, how="ended by SIGTERM")
        if reason == "over" and forced:
            code = 0  # all replicas had ended before the MPI launcher was killed
        # If a replica raised only because MPI failed, and the MPI launcher reports a kill, then a supervisor
        # was killed and could not report it.
        if first is None or (first.consequence and self._reported_signal()):
            return self._without_replica(code)
        how = f"replica {first.rank} {first.how}"
        self._show_tracebacks(first.rank, how)
        return JobResult(first.code, restart=True, how=how)

    def _without_replica(self, code: int) -> JobResult:
        """The result if no replica has reported a failure: it depends on the MPI launcher."""
        if code and self._state.cut_short:
            ranks = self._state.cut_short
            who = f"replica{'s' * (len(ranks) > 1)} {', '.join(map(str, ranks))}"
            self._display.message(
                f"{self._launcher} killed {who} after the end of the program, "
                "since another had ended without finalizing MPI (os._exit?)"
            )
            return JobResult(0, restart=False)
        whole = len(self._state.started) == self._state.size and not self._state.vanished
        failed = self._reported_signal() or code if code else 0 if whole else 1
        if failed:
            self._show_tracebacks(None)
            for line in self._incoming.hidden_lines:
                self._display.launcher_line(line)
            self._show_code(failed, aborted=code != 0)
        return JobResult(failed, restart=bool(failed))

    def _reported_signal(self) -> int:
        """128 + the signal by which a process was killed, from the MPI launcher's lines; 0 for none.

        MPICH's own exit code would be the number of the signal.
        """
        match = _SIGNAL.search(b"\n".join(self._incoming.launcher_lines))
        return 128 + int(match[1]) if match else 0

    def _show_code(self, code: int, aborted: bool) -> None:
        missing = [rank for rank in range(self._state.size) if rank not in self._state.started]
        if missing:
            who = f"{len(missing)} of {self._state.size} processes had not started"
            if self._state.started:
                who += f" (the first is {missing[0]})"
            self._display.message(f"{who}; {self._launcher} ended with exit code {code}")
        elif not aborted and self._state.vanished:
            self._display.message(f"replica {self._state.vanished[0]} ended without reporting how")
        else:
            name = f" ({signal_name(code - 128)})" if 128 < code < 128 + 65 else ""
            self._display.message(f"the job was aborted with exit code {code}{name}")

    def _show_tracebacks(self, first: int | None, summary: str = "") -> None:
        tracebacks = self._incoming.tracebacks
        last = tracebacks.get(first, []) if first is not None else []
        if last:  # this traceback shows the cause, so those of its consequences are left out
            caused = self._state.consequences - {first}
            tracebacks = {rank: lines for rank, lines in tracebacks.items() if rank not in caused}
        for rank, lines in tracebacks.items():
            if rank != first and lines != last and b"KeyboardInterrupt" not in lines[-1:]:
                self._display.traceback(rank, lines)
        alike = [str(rank) for rank, lines in tracebacks.items() if rank != first and lines == last]
        if alike:
            summary += f"; replica{'s' * (len(alike) > 1)} {', '.join(alike)} the same"
        if summary:
            self._display.message(summary)
        if first is not None and last:
            self._display.traceback(first, last)
