"""SpanRecorder: records the spans of a replica for the steps that ``distoptrun --timeline`` selects."""

from __future__ import annotations

import atexit
import json
import os
import time
from bisect import bisect_right
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any

from distopt import launched
from distopt.telemetry import LONGEST, Telemetry

__all__ = ["Span", "SpanRecorder"]

#: The most rows to record, apart from those of the call that exceeds it; a row takes about 200 bytes.
_MOST = 500_000
_NOTHING: dict[str, Any] = {}
#: Name, begin, end, arguments.
Span = tuple[str, int, int, dict[str, Any]]
#: A row of one of the kinds in `SpanRecorder.add`; for those that are sent see ``launch/timeline.py``.
_Row = tuple[Any, ...]


class SpanRecorder:
    """Records rows for one replica until the selected steps are over, then sends them as spans.

    Adding a row is cheap; the conversion comes later. Times are ``time.perf_counter_ns()``, the same clock
    for all processes of a machine.

    Attributes:
        armed: whether spans will be recorded, now or in a later step.
        on: whether spans are recorded now.
        ahead: returns by how many nanoseconds replica 0's clock is ahead of this one; None if unknown.
        add: adds a row, one of

            * ``("call", name, time)``, ``("end", time)``: the begin and end of a call by the program;
            * ``("X", name, begin, end, arguments)``: a span of the program's thread, or a part of one;
            * ``("later", spans, arguments)``: spans that ``spans(*arguments)`` returns when they are sent;
            * ``("W", "wire", begin, end, arguments)``: the time of a message; several may overlap;
            * ``("s", id, time)``, ``("f", id, time)``: it was sent; it has arrived; the id is unique.
    """

    def __init__(self) -> None:
        steps = launched.timeline_steps()
        self.armed, self.on = steps is not None, False
        self.ahead: Callable[[], int] | None = None
        self._first, self._stop = steps or (0, 0)
        self._rows: list[_Row] = [("end", time.perf_counter_ns())]
        self.add: Callable[[_Row], None] = self._rows.append
        self._replica, self._pid = 0, os.getpid()
        if self.armed:
            atexit.register(self.send)

    def step_began(self, replica: int, step: int) -> None:
        """Called when a step begins; starts or ends the recording. Steps are numbered from 1."""
        if self.on and step < self._stop:
            return
        self._replica = replica
        if step < self._stop:
            self._forget()
            self.on = step >= self._first
        else:
            del self._rows[self._open_call() :]
            while self._rows and self._rows[-1][0] != "end":
                self._rows.pop()  # input of this step, or messages that it sent ahead
            self.armed = self.on = False

    def call_ended(self) -> None:
        """Called when the last call that has begun ends."""
        self._rows.append(("end", time.perf_counter_ns()))
        if len(self._rows) > _MOST:
            if self.on:
                self.armed = self.on = False
            else:
                self._forget()
        if not self.armed and self._open_call() == len(self._rows):
            self.send()

    def add_since(self, name: str, begin: int, **arguments: Any) -> None:
        """Adds a span that ends now, if spans are recorded."""
        if self.on:
            self.add(("X", name, begin, time.perf_counter_ns(), arguments))

    def _forget(self) -> None:
        """Drops all rows before the current call, except the end of the previous call."""
        del self._rows[: max(self._open_call() - 1, 0)]

    def _open_call(self) -> int:
        """The index of the row of the outermost call that has not ended; the number of rows if all have."""
        ended, found = 0, len(self._rows)
        for k in reversed(range(len(self._rows))):
            kind = self._rows[k][0]
            if kind == "end":
                ended += 1
            elif kind == "call":
                ended, found = (ended - 1, found) if ended else (0, k)
        return found

    def send(self) -> None:
        """Converts the rows to spans and sends them, unless no requested step was made."""
        rows = [] if self.armed and not self.on else _spans(self._rows)
        self._rows.clear()
        if not rows or os.getpid() != self._pid:
            return
        telemetry = Telemetry()
        if not telemetry.wanted:
            return
        # To the clock of replica 0 if its offset is known, else to the time of day.
        shift = time.time_ns() - time.perf_counter_ns() if self.ahead is None else self.ahead()
        origin = min(row[2] for row in rows)
        about = {"replica": self._replica, "host": os.uname().nodename, "origin": origin + shift}
        part: list[list[Any]] = []
        size = 0
        for row in rows:
            shown = _shown(row, origin)
            length = len(json.dumps(shown, separators=(",", ":"))) + 1  # with a comma
            if size + length > LONGEST - 300:
                telemetry.send("spans", rows=part, **about)
                part, size = [], 0
            part.append(shown)
            size += length
        telemetry.send("spans", rows=part, **about)


def _spans(rows: Sequence[_Row]) -> list[_Row]:
    """Converts rows: calls become spans, and the time between two calls a span of the program's own code."""
    found: list[_Row] = []
    calls: list[tuple[str, int]] = []
    own: list[tuple[int, int]] = []  # the program's own code: from the end of a call to the next one
    free: int | None = None  # when the last call ended
    for row in rows:
        if row[0] == "call":
            if not calls and free is not None:
                own.append((free, row[2]))
                found.append(("X", "own code", *own[-1], _NOTHING))
            calls.append(row[1:])
        elif row[0] == "end":
            if calls:
                name, begin = calls.pop()
                found.append(("X", name, begin, row[1], _NOTHING))
            if not calls:
                free = row[1]
        elif row[0] == "later":
            found += [("X", *span) for span in row[1](*row[2])]
        elif row[0] == "X" and not calls and free is not None and row[2] < free:
            # It contains calls, such as input that makes some: keep only its parts between them.
            within = own[bisect_right(own, row[2], key=itemgetter(1)) :]
            parts = [(max(begin, row[2]), end) for begin, end in within]
            found += [("X", row[1], *part, row[4]) for part in [*parts, (free, row[3])]]
        else:
            found.append(row)
    return found


def _shown(row: _Row, origin: int) -> list[Any]:
    """A row with times in microseconds after ``origin``."""
    if row[0] in ("s", "f"):
        return [row[0], row[1], (row[2] - origin) / 1e3]
    kind, name, begin, end, arguments = row
    arguments = {key: value[:300] if isinstance(value, str) else value for key, value in arguments.items()}
    return [kind, name, (begin - origin) / 1e3, (end - begin) / 1e3, arguments]
