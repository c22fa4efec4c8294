"""Spans: what a replica did when, in the steps that ``distoptrun --timeline`` asks for."""

from __future__ import annotations

import atexit
import os
import time
from collections.abc import Callable, Sequence
from typing import Any

from distopt import launched
from distopt.telemetry import LONGEST, Telemetry

__all__ = ["Span", "SpanRecorder"]

#: So many spans are kept, and those of the step that passes it; some 200 bytes each.
_MOST = 500_000
_NOTHING: dict[str, Any] = {}
#: Name, begin, end, arguments.
Span = tuple[str, int, int, dict[str, Any]]
#: A row of a message: see ``launch/timeline.py``.
_Row = tuple[Any, ...]


class SpanRecorder:
    """Keeps one replica's spans until its steps are over, then sends them.

    Times are ``time.perf_counter_ns()``, which all processes of a machine share.

    Attributes:
        armed: whether spans are wanted, now or later.
        on: whether they are wanted just now.
        ahead: by how many nanoseconds replica 0's clock is ahead of the own one; None if that is not known.
    """

    def __init__(self) -> None:
        self._steps = launched.timeline_steps()
        self.armed, self.on = self._steps is not None, False
        self.ahead: Callable[[], int] | None = None
        self._rows: list[_Row] = []
        self._replica, self._depth = 0, 0
        self._free = time.perf_counter_ns()  # when the last call ended
        self._own: tuple[int, int] | None = None  # the program's own code before the call that it is in
        self._before = 0  # rows before that call
        self._pid = os.getpid()
        if self.armed:
            atexit.register(self._send)

    def step_began(self, replica: int, step: int) -> None:
        """A step is being made, the one of this number, from 1 on."""
        self._replica = replica
        first, stop = self._steps or (0, 0)
        if self.on and step >= stop:
            del self._rows[self._before :]
        elif not self.on and first <= step < stop and self._own is not None:
            self.add("own code", *self._own)
        self.on = first <= step < stop and len(self._rows) < _MOST
        self.armed = step < stop

    def call_began(self) -> int:
        """The program makes a call; what was between the last one and this one was its own code.

        Returns:
            when the call began.
        """
        begin = time.perf_counter_ns()
        self._depth += 1
        if self._depth == 1:
            self._own, self._before = (self._free, begin), len(self._rows)
            self.on = self.on and len(self._rows) < _MOST
            if self.on:
                self._rows.append(("X", "own code", self._free, begin, _NOTHING))
        return begin

    def call_ended(self, name: str, begin: int) -> None:
        """The call that began then has ended."""
        self._depth -= 1
        self._free = end = time.perf_counter_ns()
        if self.on:
            self._rows.append(("X", name, begin, end, _NOTHING))
        if self._depth == 0 and not self.armed:
            self._send()

    def add(self, name: str, begin: int, end: int, **arguments: Any) -> None:
        """A span of the program's thread; spans may lie in one another."""
        self._rows.append(("X", name, begin, end, arguments))

    def add_later(self, spans: Callable[..., Sequence[Span]], *arguments: Any) -> None:
        """Spans that ``spans`` makes of the arguments when they are sent, which costs the step less."""
        self._rows.append(("later", spans, arguments))

    def add_since(self, name: str, begin: int, **arguments: Any) -> None:
        """A span that ends now, if spans are wanted."""
        if self.on:
            self._rows.append(("X", name, begin, time.perf_counter_ns(), arguments))

    def travelled(self, begin: int, end: int, **arguments: Any) -> None:
        """A message was on its way; several may be at once."""
        self._rows.append(("W", "wire", begin, end, arguments))

    def sent(self, message: str, at: int) -> None:
        """A message was sent to another replica; its name is unique in the job."""
        self._rows.append(("s", message, at))

    def received(self, message: str, at: int) -> None:
        """A message of that name has come."""
        self._rows.append(("f", message, at))

    def _send(self) -> None:
        """Sends what has been recorded."""
        if not self._rows or os.getpid() != self._pid:
            return
        rows, self._rows = self._rows, []
        telemetry = Telemetry()
        if not telemetry.wanted:
            return
        rows = [each for row in rows for each in _expanded(row)]
        # To replica 0's clock, or else to one that other machines have too.
        shift = time.time_ns() - time.perf_counter_ns() if self.ahead is None else self.ahead()
        origin = min(row[2] for row in rows)
        about = {"replica": self._replica, "host": os.uname().nodename, "origin": origin + shift}
        part: list[list[Any]] = []
        size = 0
        for row in rows:
            shown = _shown(row, origin)
            length = len(repr(shown)) + 2  # JSON is no longer: no spaces after commas
            if size + length > LONGEST - 300:
                telemetry.send("spans", rows=part, **about)
                part, size = [], 0
            part.append(shown)
            size += length
        telemetry.send("spans", rows=part, **about)


def _expanded(row: _Row) -> Sequence[_Row]:
    return [("X", *span) for span in row[1](*row[2])] if row[0] == "later" else [row]


def _shown(row: _Row, origin: int) -> list[Any]:
    """A row with times in microseconds after ``origin``."""
    if row[0] in ("s", "f"):
        return [row[0], row[1], (row[2] - origin) / 1e3]
    kind, name, begin, end, arguments = row
    arguments = {key: value[:300] if isinstance(value, str) else value for key, value in arguments.items()}
    return [kind, name, (begin - origin) / 1e3, (end - begin) / 1e3, arguments]
