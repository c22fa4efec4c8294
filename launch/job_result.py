"""How a job ended, for ``distoptrun``'s exit code and for its user."""

from __future__ import annotations

import re
import signal
from dataclasses import dataclass

from .demultiplexer import Demultiplexer
from .display import Display
from .job_state import JobState, signal_name

#: How the launchers of MPICH, Open MPI and Intel MPI report a process that was killed.
_SIGNAL = re.compile(
    rb"(?:TERMINATED WITH THE EXIT STRING: .*\(signal|exited\s+on\s+signal|KILLED BY SIGNAL:)\s+(\d{1,3})"
)
_TIMEOUT_CODE = 124  # as timeout(1)


@dataclass(frozen=True)
class JobResult:
    """How a job ended.

    Attributes:
        code: exit code for ``distoptrun``.
        restart: whether another attempt makes sense: it failed by itself.
    """

    code: int
    restart: bool


class JobReporter:
    """Decides, once all is over, and shows what led to it.

    Args:
        launcher: the MPI launcher's file, for messages.
        display: where messages go.
        state: what the replicas have reported.
        heard: what the MPI launcher has said, and the tracebacks.
    """

    def __init__(self, launcher: str, display: Display, state: JobState, heard: Demultiplexer) -> None:
        self._launcher, self._display = launcher, display
        self._state, self._heard = state, heard

    def report(self, code: int, reason: str, forced: bool) -> JobResult:
        """The outcome; shows the tracebacks, the first failing replica's last.

        Args:
            code: the MPI launcher's, 128 + signal if it was killed.
            reason: the name of the `ShutdownReason` that the job was ended for; empty for none.
            forced: the MPI launcher did not end by itself.
        """
        if reason == "interrupt":
            self._display.say("interrupted")
            return JobResult(130, restart=False)
        self._state.conclude()
        first = self._state.first
        if reason in ("timeout", "unread"):
            self._show_tracebacks(first.rank if first else None)
            return JobResult(_TIMEOUT_CODE if reason == "timeout" else 128 + signal.SIGPIPE, restart=False)
        if reason == "terminate" and (first or code):
            self._show_tracebacks(first.rank if first else None)
            self._display.say("ended by SIGTERM")
            return JobResult(128 + signal.SIGTERM, restart=False)
        if reason == "over" and forced:
            code = 0  # that of the kill: all replicas had ended before
        # A replica that raised only since MPI failed under it, while MPI's launcher knows who was killed:
        # then the supervisor itself was killed, and could not say so.
        if first is None or (first.consequence and self._said_signal()):
            return self._without_replica(code)
        self._show_tracebacks(first.rank, f"replica {first.rank} {first.how}")
        return JobResult(first.code, restart=True)

    def _without_replica(self, code: int) -> JobResult:
        """No replica has said that it failed: what the MPI launcher says counts."""
        if code and self._state.cut_short:
            ranks = self._state.cut_short
            who = f"replica{'s' * (len(ranks) > 1)} {', '.join(map(str, ranks))}"
            self._display.say(
                f"{self._launcher} killed {who} after the end of the program, "
                "since another had ended without finalizing MPI (os._exit?)"
            )
            return JobResult(0, restart=False)
        whole = len(self._state.started) == self._state.size and not self._state.vanished
        failed = self._said_signal() or code if code else 0 if whole else 1
        if failed:
            self._show_tracebacks(None)
            for line in self._heard.foreign:
                self._display.foreign(line)
            self._say_code(failed, aborted=code != 0)
        return JobResult(failed, restart=bool(failed))

    def _said_signal(self) -> int:
        """128 + the signal that the MPI launcher names (MPICH's exit code is the bare number); 0 for none."""
        match = _SIGNAL.search(b"\n".join(self._heard.words))
        return 128 + int(match[1]) if match else 0

    def _say_code(self, code: int, aborted: bool) -> None:
        missing = [rank for rank in range(self._state.size) if rank not in self._state.started]
        if missing:
            who = f"{len(missing)} of {self._state.size} processes had not started"
            if self._state.started:
                who += f" (the first is {missing[0]})"
            self._display.say(f"{who}; {self._launcher} ended with exit code {code}")
        elif not aborted and self._state.vanished:
            self._display.say(f"replica {self._state.vanished[0]} has ended, and nothing is known of how")
        else:
            name = f" ({signal_name(code - 128)})" if 128 < code < 128 + 65 else ""
            self._display.say(f"the job was aborted with exit code {code}{name}")

    def _show_tracebacks(self, first: int | None, summary: str = "") -> None:
        tracebacks = self._heard.tracebacks
        last = tracebacks.get(first, []) if first is not None else []
        for rank, lines in tracebacks.items():
            if rank != first and lines != last and b"KeyboardInterrupt" not in lines[-1:]:
                self._display.traceback(rank, lines)
        alike = [str(rank) for rank, lines in tracebacks.items() if rank != first and lines == last]
        if alike:
            summary += f"; replica{'s' * (len(alike) > 1)} {', '.join(alike)} the same"
        if summary:
            self._display.say(summary)
        if first is not None and last:
            self._display.traceback(first, last)
