"""The supervisor of one replica: its parent process."""

from __future__ import annotations

import os
import select
import signal
import time
from contextlib import suppress
from types import FrameType
from typing import TYPE_CHECKING

from .output_forwarder import OutputForwarder
from .protocol import Event, encode

if TYPE_CHECKING:
    from .feed import Feed

_FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGCONT)
_CHUNK = 1 << 16
_DRAIN_SECONDS = 0.5  # for output that descendants of the dead replica still write


class Supervisor:
    """Waits for the replica's end and reports it.

    Args:
        rank: the replica's rank.
        pid: the replica's PID.
        ends: the replica's descriptors for standard output, standard error and events. They are closed here,
            except that the supervisor of a process on the launcher's machine keeps events.
        forwarder: forwards the replica's output if the launcher is on another machine; None if it is on this
            one.

    Attributes:
        feed: sends telemetry; None if the launcher has not asked for it.
    """

    def __init__(
        self, rank: int, pid: int, ends: tuple[int, int, int], forwarder: OutputForwarder | None
    ) -> None:
        self._rank, self._pid, self._forwarder = rank, pid, forwarder
        self.feed: Feed | None = None
        self._asked_to_end = False
        self._wake, wake_writer = os.pipe()
        os.set_blocking(wake_writer, False)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        for number in _FORWARDED:
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self._forward_signal)
        signal.set_wakeup_fd(wake_writer, warn_on_full_buffer=False)
        self._events = ends[2]
        for descriptor in ends if forwarder else ends[:2]:
            os.close(descriptor)

    def report(self, event: Event) -> None:
        """Sends an event to the launcher, if it is still there."""
        with suppress(OSError):
            if self._forwarder is None:
                os.write(self._events, encode(event))
            else:
                self._forwarder.send("events", encode(event))

    def wait(self) -> int:
        """Waits for the replica's end; returns the exit code for this process."""
        # A pipe without a reader reports an error: if the launcher ends, so does the replica.
        poll = select.poll()
        poll.register(self._events if self._forwarder is None else 1, 0)
        poll.register(self._wake, select.POLLIN)
        for reader in self._forwarder.readers if self._forwarder else ():
            poll.register(reader, select.POLLIN)
        while (status := self._ended()) is None:
            for descriptor, event in poll.poll(self.feed.wait * 1000 if self.feed else None):
                if descriptor == self._wake:
                    os.read(self._wake, _CHUNK)
                elif self._forwarder and descriptor in self._forwarder.readers:
                    self._pump(descriptor, poll)
                elif event:
                    _kill_group(self._pid)
                    poll.unregister(descriptor)
            if self.feed:
                self.feed.proceed()
        if self._forwarder:
            self._drain(poll)
        if self.feed:
            self.feed.end()
        asked = ("1",) if self._asked_to_end else ()
        self.report(Event("exit", self._rank, (str(status), *asked)))
        return status if status >= 0 else 128 - status

    def _ended(self) -> int | None:
        """The replica's exit code, negative for a signal; None while it runs."""
        if os.waitid(os.P_PID, self._pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            return None
        _kill_group(self._pid)  # before the replica is reaped, after which its PID could be reused
        return os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])

    def _forward_signal(self, number: int, _frame: FrameType | None) -> None:
        if number in (signal.SIGTERM, signal.SIGINT):
            self._asked_to_end = True
        # On another machine, the replica is in this process's group: the MPI launcher has already signalled
        # it.
        if self._forwarder is None:
            with suppress(ProcessLookupError):
                os.kill(self._pid, number)

    def _pump(self, reader: int, poll: select.poll) -> None:
        """Forwards what a pipe of the replica has, and stops polling it at its end."""
        assert self._forwarder is not None
        try:
            more = self._forwarder.pump(reader)
        except OSError:
            more = False
        if not more:
            poll.unregister(reader)
            del self._forwarder.readers[reader]

    def _drain(self, poll: select.poll) -> None:
        """After the replica's end: forwards the rest of its output, for a limited time."""
        assert self._forwarder is not None
        end = time.monotonic() + _DRAIN_SECONDS
        while self._forwarder.readers and (left := end - time.monotonic()) > 0:
            for descriptor, _event in poll.poll(left * 1000):
                if descriptor in self._forwarder.readers:
                    self._pump(descriptor, poll)
                elif descriptor == self._wake:
                    os.read(self._wake, _CHUNK)


def _kill_group(pid: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
