from __future__ import annotations

import re
import time
from collections.abc import Callable

from .display import Display
from .line_buffer import LineBuffer
from .protocol import MARK, TRACEBACK_BEGINS, TRACEBACK_ENDS

# MPI_Abort's own words, said on top of the traceback that led to it.
_ABORT_WORDS = re.compile(rb"(Abort\(\d+\) on node \d+ .*)?application called MPI_Abort\(")
#: A line without an end is passed on in parts of about so many bytes.
_LONGEST = 1 << 18
#: So many bytes of a traceback are held back; what else comes is shown at once.
_HELD = 1 << 20
_PROGRESS = 10.0  # seconds from one note of a progress bar to the next, in files
_PROMPT = 0.1  # seconds of silence that make the beginning of a line a question


class Stream:
    """One replica's output or error stream, on its way to the display.

    Args:
        rank: the replica.
        kind: ``out`` or ``err``.
        display: where lines go.
        held: gets the lines of a traceback that ended the replica, which are to be shown last.

    Attributes:
        interactive: whether the replica may be waiting for input: an unfinished line may be a prompt.
        due: when `proceed` has something to do, on the monotonic clock; infinity for never.
    """

    def __init__(self, rank: int, kind: str, display: Display, held: Callable[[int, bytes], None]) -> None:
        self._rank, self._kind, self._display, self._held = rank, kind, display, held
        self._lines = LineBuffer()
        self._in_traceback = False
        self._room = _HELD
        self._noted = b""
        self._returns = False  # the open line holds carriage returns
        self.interactive = False
        self.due = float("inf")

    def add(self, data: bytes) -> None:
        """Takes bytes as they came."""
        whole = self._lines.add(data)
        for line in whole:
            self._line(line)
        if whole:
            self.due, self._returns = float("inf"), False
        self._returns = self._returns or b"\r" in data.rpartition(b"\n")[2]
        if self._lines.size:
            self._begun()

    def may_prompt(self) -> None:
        """From now on the beginning of a line may be a prompt, also one that has come already."""
        self.interactive = True
        if self._lines.size:
            self._begun()

    def proceed(self) -> None:
        """Shows what has been left unfinished long enough."""
        self.due = float("inf")
        text = self._lines.open
        if not text or MARK in text or self._in_traceback:
            return
        if self._returns:
            state = _overwritten(text)
            if state != self._noted:
                self._display.progress(self._rank, self._kind, state)
            self._noted = state
        elif self.interactive:
            self._display.part(self._rank, self._kind, self._lines.take())

    def end(self) -> None:
        """Shows what is left without a line end."""
        for line in self._lines.rest():
            self._line(line)

    def _begun(self) -> None:
        """Looks at a line that has no end yet."""
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
        if self._kind == "err" and _ABORT_WORDS.match(line):
            self._display.log(self._rank, self._kind, line)
        elif self._in_traceback and self._room > 0:
            self._room -= len(line) + 1
            self._display.log(self._rank, self._kind, line)
            self._held(self._rank, line)
        else:
            self._display.line(self._rank, self._kind, _overwritten(line))


def _overwritten(text: bytes) -> bytes:
    """What a terminal would be left with of a line that was written over and over."""
    return text.rstrip(b"\r").rpartition(b"\r")[2]


def _state(text: bytes) -> bytes:
    """The same of a line that goes on, where what comes next may begin the line anew."""
    return b"\r" + _overwritten(text) + (b"\r" if text.endswith(b"\r") else b"")
