from __future__ import annotations

import re
import time
from collections.abc import Callable

from .display import Display
from .line_buffer import LineBuffer
from .protocol import MARK, TRACEBACK_BEGINS, TRACEBACK_ENDS

# The message of MPI_Abort, which is not shown because a traceback has been shown before it.
_ABORT_MESSAGE = re.compile(rb"(Abort\(\d+\) on node \d+ .*)?application called MPI_Abort\(")
#: A longer unfinished line is shown in parts of about this many bytes.
_LONGEST = 1 << 18
#: How many bytes of a traceback are kept until the end of the job; the rest is shown at once.
_HELD = 1 << 20
_PROGRESS = 10.0  # seconds between two states of a progress bar in output that is not a terminal
_PROMPT = 0.1  # seconds of silence after which an unfinished line is a prompt


class Stream:
    """One replica's standard output or error, split into lines for the display.

    Args:
        rank: the replica.
        kind: ``out`` or ``err``.
        display: shows the lines.
        keep_traceback: called with the rank and each line of the traceback of an uncaught exception.

    Attributes:
        interactive: whether the replica may be waiting for input, so that an unfinished line may be a prompt.
        due: the time at which to call `proceed` (`time.monotonic`); infinity for never.
    """

    def __init__(
        self, rank: int, kind: str, display: Display, keep_traceback: Callable[[int, bytes], None]
    ) -> None:
        self._rank, self._kind, self._display, self._keep_traceback = rank, kind, display, keep_traceback
        self._lines = LineBuffer()
        self._in_traceback = False
        self._room = _HELD
        self._last_state = b""
        self._returns = False  # whether the unfinished line contains carriage returns
        self.interactive = False
        self.due = float("inf")

    def add(self, data: bytes) -> None:
        """Adds bytes as they arrive."""
        whole = self._lines.add(data)
        for line in whole:
            self._line(line)
        if whole:
            self.due, self._returns = float("inf"), False
        self._returns = self._returns or b"\r" in data.rpartition(b"\n")[2]
        if self._lines.size:
            self._check_unfinished()

    def may_prompt(self) -> None:
        """Sets `interactive`. The current unfinished line may be a prompt too."""
        self.interactive = True
        if self._lines.size:
            self._check_unfinished()

    def proceed(self) -> None:
        """Shows a line that has been unfinished for long enough."""
        self.due = float("inf")
        text = self._lines.open
        if not text or MARK in text or self._in_traceback:
            return
        if self._returns:
            state = _overwritten(text)
            if state != self._last_state:
                self._display.progress(self._rank, self._kind, state)
            self._last_state = state
        elif self.interactive:
            self._display.part(self._rank, self._kind, self._lines.take())

    def end(self) -> None:
        """At the end of the stream: shows a line without a newline."""
        for line in self._lines.rest():
            self._line(line)

    def _check_unfinished(self) -> None:
        """Shows an unfinished line if it is a progress bar or too long; sets `due` if it may be a prompt."""
        if self._lines.size <= _LONGEST and not self._returns:
            if self.interactive:
                self.due = time.monotonic() + _PROMPT
            return
        text = self._lines.take()
        if MARK in text and len(text) <= 2 * _LONGEST:
            self._lines.add(text)
        elif self._returns and len(state := _state(text)) <= _LONGEST:
            self._lines.add(state)
            self._display.unfinished(self._rank, self._kind, _overwritten(state))
            self.due = min(self.due, time.monotonic() + _PROGRESS)
        else:
            self._returns = False
            self._display.part(self._rank, self._kind, text)

    def _line(self, line: bytes) -> None:
        if MARK in line:
            for mark, state in ((TRACEBACK_BEGINS, True), (TRACEBACK_ENDS, False)):
                before, found, _ = line.partition(mark)
                if found:
                    if before:
                        self._line(before)
                    self._in_traceback = state
                    return
        if self._kind == "err" and _ABORT_MESSAGE.match(line):
            self._display.log(self._rank, self._kind, line)
        elif self._in_traceback and self._room > 0:
            self._room -= len(line) + 1
            self._display.log(self._rank, self._kind, line)
            self._keep_traceback(self._rank, line)
        else:
            self._display.line(self._rank, self._kind, _overwritten(line))


def _overwritten(text: bytes) -> bytes:
    """The part of a line that a terminal shows in the end, after carriage returns."""
    return text.rstrip(b"\r").rpartition(b"\r")[2]


def _state(text: bytes) -> bytes:
    """The visible part of an unfinished line, with the carriage returns that its next bytes depend on."""
    return b"\r" + _overwritten(text) + (b"\r" if text.endswith(b"\r") else b"")
