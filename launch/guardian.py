"""The guardian of one replica; and, away from the launcher's machine, the carrier of its output."""

from __future__ import annotations

import os
import select
import signal
import time
from contextlib import suppress
from types import FrameType

from .channel import News, encode, records

_PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGCONT)
_CHUNK = 1 << 16
_LAST_WORDS = 0.5  # seconds for what a dead replica's descendants still write


class Relay:
    """Pipes to the replica; what comes goes on as records, through this process's own standard output."""

    def __init__(self, rank: int) -> None:
        self._rank = rank
        self.readers: dict[int, str] = {}
        ends = []
        for stream in ("out", "err", "news"):
            reader, writer = os.pipe()
            self.readers[reader] = stream
            ends.append(writer)
        self.ends = (ends[0], ends[1], ends[2])

    def forget(self) -> None:
        """In the replica: its side has no use for the reading ends."""
        for reader in self.readers:
            os.close(reader)

    def pump(self, reader: int) -> bool:
        """Passes on what is there; False at the end of the stream."""
        data = os.read(reader, _CHUNK)
        for record in records(self._rank, self.readers[reader], data) if data else ():
            _write(record)
        return bool(data)


class Guardian:
    """Waits for the replica's end and reports it.

    Args:
        rank: the process's number.
        pid: the replica's.
        ends: the replica's descriptors for out, err and news, to be closed here (all but news).
        relay: carrier of the output, away from the launcher's machine.
    """

    def __init__(self, rank: int, pid: int, ends: tuple[int, int, int], relay: Relay | None) -> None:
        self._rank, self._pid, self._relay = rank, pid, relay
        self._told_to_end = False
        self._wake, wake_writer = os.pipe()
        os.set_blocking(wake_writer, False)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        for number in _PASSED_ON:
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self._pass_on)
        signal.set_wakeup_fd(wake_writer, warn_on_full_buffer=False)
        self._news = ends[2]
        for descriptor in ends if relay else ends[:2]:
            os.close(descriptor)

    def tell(self, news: News) -> None:
        """Sends news to the launcher, if it is still there."""
        with suppress(OSError):
            if self._relay is None:
                os.write(self._news, encode(news))
            else:
                for record in records(self._rank, "news", encode(news)):
                    _write(record)

    def watch(self) -> int:
        """Waits for the replica's end; returns the exit code for this process."""
        # A pipe whose reader is gone reports an error: the launcher's end ends the replica.
        poll = select.poll()
        poll.register(self._news if self._relay is None else 1, 0)
        poll.register(self._wake, select.POLLIN)
        for reader in self._relay.readers if self._relay else ():
            poll.register(reader, select.POLLIN)
        while (status := self._ended()) is None:
            for descriptor, event in poll.poll():
                if descriptor == self._wake:
                    os.read(self._wake, _CHUNK)
                elif self._relay and descriptor in self._relay.readers:
                    self._pump(descriptor, poll)
                elif event:
                    _kill_group(self._pid)
                    poll.unregister(descriptor)
        if self._relay:
            self._drain(poll)
        told = ("1",) if self._told_to_end else ()
        self.tell(News("exit", self._rank, (str(status), *told)))
        return status if status >= 0 else 128 - status

    def _ended(self) -> int | None:
        """The replica's exit code, negative for a signal; None while it runs."""
        if os.waitid(os.P_PID, self._pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            return None
        _kill_group(self._pid)  # while the dead replica still holds the number
        return os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])

    def _pass_on(self, number: int, _frame: FrameType | None) -> None:
        if number in (signal.SIGTERM, signal.SIGINT):
            self._told_to_end = True
        # Elsewhere the replica is in this process's group, to which MPI launchers send: it has it already.
        if self._relay is None:
            with suppress(ProcessLookupError):
                os.kill(self._pid, number)

    def _pump(self, reader: int, poll: select.poll) -> None:
        assert self._relay is not None
        try:
            more = self._relay.pump(reader)
        except OSError:
            more = False
        if not more:
            poll.unregister(reader)
            del self._relay.readers[reader]

    def _drain(self, poll: select.poll) -> None:
        assert self._relay is not None
        end = time.monotonic() + _LAST_WORDS
        while self._relay.readers and (left := end - time.monotonic()) > 0:
            for descriptor, _event in poll.poll(left * 1000):
                if descriptor in self._relay.readers:
                    self._pump(descriptor, poll)
                elif descriptor == self._wake:
                    os.read(self._wake, _CHUNK)


def _write(record: bytes) -> None:
    """Writes to the MPI launcher's pipe, which may have been made non-blocking: a record is written whole."""
    while True:
        try:
            os.write(1, record)
            return
        except BlockingIOError:
            select.select([], [1], [])


def _kill_group(pid: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
