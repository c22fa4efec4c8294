"""What people see: whole lines with the replica's number, and a file for each replica."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from .channel import MARK, TRACEBACK_BEGINS, TRACEBACK_ENDS
from .errors import LaunchError
from .lines import Lines

# MPI_Abort's own words, said on top of the traceback that led to it.
_ABORT_WORDS = re.compile(rb"(Abort\(\d+\) on node \d+ .*)?application called MPI_Abort\(")


class Display:
    """Puts lines on the terminal and into files.

    Args:
        shown: the replicas whose output goes to the terminal; None for all.
        terminal: whether output goes there at all (tracebacks and messages always do).
        timestamps: put the time before each line.
        logs: folder for one file per replica; None for none.
        named: whether the lines of standard output carry a replica's number already, as where
            a process holds several replicas.
    """

    def __init__(
        self,
        shown: tuple[int, ...] | None,
        terminal: bool,
        timestamps: bool,
        logs: Path | None,
        named: bool = False,
    ) -> None:
        self._named = named
        self._shown, self._terminal, self._timestamps, self._logs = shown, terminal, timestamps, logs
        self._files: dict[int, BinaryIO] = {}
        self._live = terminal and sys.stdout.isatty()
        self._unfinished = b""
        self._unfinished_rank = -1
        if logs is not None:
            try:
                logs.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise LaunchError(f"--log-dir {logs}: {error.strerror}") from None

    def open_logs(self, size: int, attempt: int) -> None:
        """Begins the files, or continues them after a restart."""
        self.close()
        if self._logs is None:
            return
        for rank in range(size):
            path = self._logs / f"replica-{rank}.log"
            try:
                self._files[rank] = path.open("ab" if attempt else "wb", buffering=0)
            except OSError as error:
                raise LaunchError(f"cannot write {path}: {error.strerror}") from None

    def line(self, rank: int, stream: str, text: bytes) -> None:
        """Shows a replica's line; ``text`` is without its end."""
        self._log(rank, text)
        if self._terminal and (self._shown is None or rank in self._shown):
            prefix = b"" if self._named and stream == "out" else self._prefix(rank)
            self._write(stream, prefix + _overwritten(text))

    def unfinished(self, rank: int, text: bytes) -> None:
        """Shows a line that is still being written: a progress bar; on a terminal only."""
        if self._live and (self._shown is None or rank in self._shown):
            self._unfinished_rank = rank
            self._unfinished = self._prefix(rank) + _overwritten(text)
            _put(1, b"\r\x1b[K" + self._unfinished)

    def finished(self, rank: int) -> None:
        """Forgets the replica's unfinished line: its end is about to be shown."""
        if self._unfinished and rank == self._unfinished_rank:
            _put(1, b"\r\x1b[K")
            self._unfinished = b""

    def traceback(self, rank: int, lines: list[bytes]) -> None:
        """Shows a replica's traceback, whatever else is hidden."""
        for text in lines:
            self._write("err", self._prefix(rank) + text)

    def log(self, rank: int, text: bytes) -> None:
        """Writes a line to the replica's file only."""
        self._log(rank, text)

    def say(self, message: str) -> None:
        """Shows a message of the launcher itself."""
        for text in message.splitlines():
            self._write("err", b"distoptrun: " + text.encode(errors="replace"))

    def foreign(self, text: bytes) -> None:
        """Shows a line of the MPI launcher."""
        self._write("err", b"mpiexec: " + text)

    def close(self) -> None:
        """Closes the files."""
        for file in self._files.values():
            file.close()
        self._files.clear()

    def _prefix(self, rank: int) -> bytes:
        if not self._timestamps:
            return b"[%d] " % rank
        now = time.time()
        clock = time.strftime("%H:%M:%S", time.localtime(now))
        return f"{clock}.{int(now % 1 * 1000):03d} [{rank}] ".encode()

    def _log(self, rank: int, text: bytes) -> None:
        file = self._files.get(rank)
        if file is None:
            return
        try:
            file.write(text + b"\n")
        except OSError as error:
            # A full disk must not end the job; say so once, and go on without this file.
            del self._files[rank]
            self.say(f"replica {rank}'s log cannot be written any more: {error.strerror}")

    def _write(self, stream: str, text: bytes) -> None:
        clear, again = (b"\r\x1b[K", self._unfinished) if self._unfinished else (b"", b"")
        _put(1 if stream == "out" else 2, clear + text + b"\n" + again)


def _overwritten(text: bytes) -> bytes:
    """What a terminal would be left with of a line that was written over and over."""
    return text.rstrip(b"\r").rpartition(b"\r")[2]


def _put(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(descriptor, view) :]
        except OSError:
            return  # nobody reads any more: the job goes on


class Stream:
    """One replica's output or error stream, on its way to the display.

    Args:
        rank: the replica.
        kind: ``out`` or ``err``.
        display: where lines go.
        held: gets the lines of a traceback that ended the replica, which are to be shown last.
    """

    def __init__(self, rank: int, kind: str, display: Display, held: Callable[[int, bytes], None]) -> None:
        self._rank, self._kind, self._display, self._held = rank, kind, display, held
        self._lines = Lines()
        self._in_traceback = False

    def add(self, data: bytes) -> None:
        """Takes bytes as they came."""
        for line in self._lines.add(data):
            self._display.finished(self._rank)
            self._line(line)
        if b"\r" in (rest := self._lines.open) and MARK not in rest:
            self._display.unfinished(self._rank, rest)

    def end(self) -> None:
        """Shows what is left without a line end."""
        for line in self._lines.rest():
            self._display.finished(self._rank)
            self._line(line)

    def _line(self, line: bytes) -> None:
        if MARK in line:
            for mark, state in ((TRACEBACK_BEGINS, True), (TRACEBACK_ENDS, False)):
                before, found, _ = line.partition(mark)
                if found:
                    if before:
                        self._line(before)
                    self._in_traceback = state
                    return
        if self._kind == "err" and _ABORT_WORDS.match(line):
            self._display.log(self._rank, line)
        elif self._in_traceback:
            self._display.log(self._rank, line)
            self._held(self._rank, line)
        else:
            self._display.line(self._rank, self._kind, line)
