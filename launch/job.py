"""One job from its start to its exit code."""

from __future__ import annotations

import os
import re
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from . import environment
from . import segments as shared
from .channel import Pipes, decode, parse_record
from .commands import command, variables
from .display import Display, Stream
from .errors import LaunchError
from .lines import Lines
from .plan import Plan
from .stop import Reason, Stop
from .verdict import Verdict, signal_name

_CHUNK = 1 << 16
_INTERRUPT_GRACE = 2.5  # with what follows, Ctrl-C ends everything within 5 s
_FAILURE_GRACE = 3.0  # for the others to end by themselves, and say why, once one has failed
_LAST_OUTPUT = 1.0  # for output that is still in the pipes when mpiexec has ended
#: How the launchers of MPICH, Open MPI and Intel MPI report a process that was killed.
_SIGNAL = re.compile(
    rb"(?:TERMINATED WITH THE EXIT STRING: .*\(signal|exited\s+on\s+signal|KILLED BY SIGNAL:)\s+(\d+)"
)
_TIMEOUT_CODE = 124  # as timeout(1)


@dataclass(frozen=True)
class Outcome:
    """How a job ended.

    Attributes:
        code: exit code for ``distoptrun``.
        restart: whether another attempt makes sense: it failed by itself.
    """

    code: int
    restart: bool


class Job:
    """Starts a plan, carries its output, and ends it.

    Args:
        plan: what to start.
        display: where output goes.
        environ: the environment to start from.
        deadline: when to end it, on the monotonic clock; None for never.
        grace: seconds from SIGTERM to SIGKILL.
    """

    def __init__(
        self, plan: Plan, display: Display, environ: dict[str, str], deadline: float | None, grace: float
    ) -> None:
        self._plan, self._display, self._environ = plan, display, environ
        self._deadline, self._grace = deadline, grace
        self._verdict = Verdict(plan.processes)
        self._tracebacks: dict[int, list[bytes]] = {}
        self._words: list[bytes] = []  # the MPI launcher's own lines; of these, not shown yet:
        self._foreign: list[bytes] = []
        self._partial: dict[tuple[int, str], bytes] = {}
        self._streams = {
            (rank, kind): Stream(rank, kind, display, self._hold)
            for rank in range(plan.processes)
            for kind in ("out", "err")
        }
        self._news = Lines()
        self._said = {"out": Lines(), "err": Lines()}
        self._selector = selectors.DefaultSelector()

    def run(self, attempt: int) -> Outcome:
        """Runs the job to its end.

        Raises:
            LaunchError: the MPI launcher cannot be started.
        """
        try:
            pipes = Pipes(self._plan.processes)
        except OSError as error:
            raise LaunchError(f"cannot make pipes for {self._plan.processes} processes: {error}") from None
        segments = shared.present()
        try:
            with _signals() as arrived:
                process = self._start(pipes, attempt)
                stop = Stop(process, self._verdict)
                try:
                    self._watch(process, stop, arrived)
                finally:
                    self._sweep(process, stop)
            return self._judge(process.returncode, stop)
        finally:
            pipes.close()
            self._selector.close()
            shared.remove_unused(segments, [pid for pids in self._verdict.pids.values() for pid in pids])

    def _start(self, pipes: Pipes, attempt: int) -> subprocess.Popen[bytes]:
        environ = {
            **self._environ,
            **variables(self._plan),
            environment.CHANNEL: str(pipes.folder),
            environment.RESTART: str(attempt),
        }
        if sys.stdout.isatty():
            environ[environment.TTY] = "1"
        words = command(self._plan)
        try:
            process = subprocess.Popen(
                words,
                env=environ,
                stdin=_stdin(),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,  # Ctrl-C comes here only, to be passed on in order
            )
        except OSError as error:
            raise LaunchError(f"cannot start {words[0]}: {error.strerror}") from None
        assert process.stdout is not None
        assert process.stderr is not None
        for pipe, kind in ((process.stdout, "out"), (process.stderr, "err")):
            os.set_blocking(pipe.fileno(), False)
            self._selector.register(pipe.fileno(), selectors.EVENT_READ, (-1, kind))
        for reader, label in pipes.readers.items():
            self._selector.register(reader, selectors.EVENT_READ, label)
        return process

    def _watch(self, process: subprocess.Popen[bytes], stop: Stop, arrived: _Arrived) -> None:
        self._selector.register(arrived.reader, selectors.EVENT_READ, (-1, "signal"))
        while process.poll() is None:
            self._turn(min(stop.wait, self._left()))
            for number in arrived.take():
                stop.ask(self._reason(number))
            if self._left() <= 0 and (stop.reason is None or stop.reason.name == "failure"):
                self._deadline = None
                self._display.say("the time is up (--timeout): ending the job")
                stop.ask(Reason("timeout", signal.SIGTERM, self._grace))
            if self._verdict.failures and stop.reason is None:
                stop.ask(Reason("failure", 0, _FAILURE_GRACE))
            stop.proceed()
        self._selector.unregister(arrived.reader)

    def _reason(self, number: int) -> Reason:
        if number == signal.SIGINT:
            return Reason("interrupt", signal.SIGINT, _INTERRUPT_GRACE)
        return Reason("terminate", signal.SIGTERM, self._grace)

    def _left(self) -> float:
        return float("inf") if self._deadline is None else max(0.0, self._deadline - time.monotonic())

    def _sweep(self, process: subprocess.Popen[bytes], stop: Stop) -> None:
        """After the launcher's end: what is left in the pipes, and nobody left behind."""
        self._drain()
        stop.kill_replicas()
        if process.poll() is None:
            process.kill()
            process.wait()
        self._drain()
        for stream in self._streams.values():
            stream.end()
        for lines in self._said.values():
            for line in lines.rest():
                self._take_foreign(line)
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()

    def _drain(self) -> None:
        """Reads until all writers are gone or silent for long."""
        end = time.monotonic() + _LAST_OUTPUT
        while self._selector.get_map() and (left := end - time.monotonic()) > 0:
            # Pipes that no process has opened yet say nothing at all: an empty turn then means the end.
            wait = min(left, 0.1) if self._verdict.running else 0.0
            if not self._turn(wait) and not self._verdict.running:
                return

    def _turn(self, wait: float) -> bool:
        """Reads what has come; False if nothing has."""
        events = self._selector.select(None if wait == float("inf") else wait)
        for key, _mask in events:
            rank, kind = key.data
            if kind == "signal":
                continue
            try:
                data = os.read(key.fd, _CHUNK)
            except BlockingIOError:
                continue
            if not data:
                self._selector.unregister(key.fd)
            elif kind == "news":
                for line in self._news.add(data):
                    self._take_news(line, here=True)
            elif rank >= 0:
                self._streams[rank, kind].add(data)
            else:
                for line in self._said[kind].add(data):
                    self._take_foreign(line)
        return bool(events)

    def _take_news(self, line: bytes, here: bool) -> None:
        if news := decode(line):
            self._verdict.take(news, here)

    def _take_foreign(self, line: bytes) -> None:
        """A line from the MPI launcher: a record of a replica elsewhere, or words of its own."""
        record = parse_record(line)
        if record is None or not record[0] < self._plan.processes:
            self._take_words(line)
            return
        rank, kind, text = record
        text = self._partial.pop((rank, kind.rstrip("+")), b"") + text
        if kind.endswith("+"):
            self._partial[rank, kind.rstrip("+")] = text
        elif kind == "news":
            self._take_news(text, here=False)
        else:
            self._streams[rank, kind].add(text + b"\n")

    def _take_words(self, line: bytes) -> None:
        # Until all have started they may be what the user waits for; later, mostly noise about an end.
        if len(self._verdict.started) < self._plan.processes and not self._verdict.failures:
            self._display.foreign(line)
        else:
            self._foreign.append(line)
        self._words.append(line)

    def _hold(self, rank: int, line: bytes) -> None:
        self._tracebacks.setdefault(rank, []).append(line)

    def _judge(self, returncode: int, stop: Stop) -> Outcome:
        """The outcome; shows the tracebacks, the first failing replica's last."""
        reason = stop.reason.name if stop.reason else ""
        first = self._verdict.first
        code = returncode if returncode >= 0 else 128 - returncode
        if reason == "interrupt":
            self._display.say("interrupted")
            return Outcome(130, restart=False)
        if reason == "timeout":
            self._show_tracebacks(first.rank if first else None)
            return Outcome(_TIMEOUT_CODE, restart=False)
        if reason == "terminate" and (first or code):
            self._show_tracebacks(first.rank if first else None)
            self._display.say("ended by SIGTERM")
            return Outcome(128 + signal.SIGTERM, restart=False)
        # A replica that raised only since MPI failed under it, while MPI's launcher knows who was killed:
        # then the guardian itself was killed, and could not say so.
        if first is None or (first.consequence and self._said_signal()):
            if code:
                code = self._said_signal() or code
                self._show_tracebacks(None)
                for line in self._foreign:
                    self._display.foreign(line)
                self._say_code(code)
            return Outcome(code, restart=bool(code))
        self._show_tracebacks(first.rank, f"replica {first.rank} {first.how}")
        return Outcome(first.code, restart=True)

    def _said_signal(self) -> int:
        """128 + the signal that the MPI launcher names (MPICH's exit code is the bare number); 0 for none."""
        match = _SIGNAL.search(b"\n".join(self._words))
        return 128 + int(match[1]) if match else 0

    def _say_code(self, code: int) -> None:
        missing = self._plan.processes - len(self._verdict.started)
        if missing:
            who = f"{missing} of {self._plan.processes} processes had not started"
            self._display.say(f"{who}; {self._plan.launcher} ended with exit code {code}")
        else:
            name = f" ({signal_name(code - 128)})" if 128 < code < 128 + 65 else ""
            self._display.say(f"the job was aborted with exit code {code}{name}")

    def _show_tracebacks(self, first: int | None, summary: str = "") -> None:
        last = self._tracebacks.get(first, []) if first is not None else []
        for rank, lines in self._tracebacks.items():
            if rank != first and lines != last and b"KeyboardInterrupt" not in lines[-1:]:
                self._display.traceback(rank, lines)
        alike = [str(rank) for rank, lines in self._tracebacks.items() if rank != first and lines == last]
        if alike:
            summary += f"; replica{'s' * (len(alike) > 1)} {', '.join(alike)} the same"
        if summary:
            self._display.say(summary)
        if first is not None and last:
            self._display.traceback(first, last)


class _Arrived:
    """Signals that came, through a pipe that wakes the selector."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()
        os.set_blocking(self.reader, False)
        os.set_blocking(self.writer, False)

    def take(self) -> list[int]:
        """The numbers of the signals since the last call, children's ends left out."""
        try:
            return [number for number in os.read(self.reader, _CHUNK) if number in _CAUGHT]
        except BlockingIOError:
            return []


_CAUGHT = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def _signals() -> Iterator[_Arrived]:
    """Signals are put aside for the loop while a job runs."""

    def nothing(_number: int, _frame: FrameType | None) -> None:
        pass

    arrived = _Arrived()
    before = {number: signal.signal(number, nothing) for number in (*_CAUGHT, signal.SIGCHLD)}
    wakeup = signal.set_wakeup_fd(arrived.writer, warn_on_full_buffer=False)
    try:
        yield arrived
    finally:
        signal.set_wakeup_fd(wakeup)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(arrived.reader)
        os.close(arrived.writer)


def _stdin() -> int | None:
    """The terminal's input goes to the job only if it is ours to read; a background job would steal it."""
    try:
        foreground = not os.isatty(0) or os.tcgetpgrp(0) == os.getpgrp()
    except OSError:
        foreground = False
    return None if foreground else subprocess.DEVNULL
