"""``--timeline``: the activities of all replicas over time, as Chrome trace events for ui.perfetto.dev.

A message of kind ``spans`` contains the number of a replica, the name of its host, an origin in nanoseconds,
and rows with times in microseconds after the origin. All replicas use the same clock, up to the error of
clock synchronization. The rows are:

    ["X", name, begin, length, arguments]   a span of the program's thread. Spans may be nested.
    ["W", name, begin, length, arguments]   a message between nodes. Several may overlap.
    ["s", id, time] and ["f", id, time]     the start and the end of an arrow: a message was sent, and
    received.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

from .job_record import JobRecord

#: The largest number of rows, about 200 MB of JSON.
_MOST = 1_000_000
_LONGEST = 300  # characters of a name
#: The exceptions that a malformed message can raise.
_MALFORMED = (KeyError, TypeError, ValueError, IndexError, OverflowError)
#: Thread IDs in the trace: the program, and the first lane of messages.
_OWN, _WIRE = 1, 2
#: Name, begin and length in nanoseconds, and arguments.
_Span = tuple[str, int, int, Mapping[str, Any]]
#: The names of spans -> colours of Chrome's palette.
_COLOURS = {
    "own code": "thread_state_running",
    "waiting": "thread_state_iowait",
    "sum and update": "good",
    "input": "thread_state_runnable",
    "saving": "rail_load",
    "wire": "rail_animation",
}


class Timeline:
    """Collects spans, and makes the trace.

    Args:
        steps: the range of steps ``(first, stop)`` of the spans.

    Attributes:
        dropped: the number of rows that were dropped because there are too many.
    """

    def __init__(self, steps: tuple[int, int]) -> None:
        self._steps = steps
        self._hosts: dict[int, str] = {}
        self._spans: dict[int, list[_Span]] = {}
        self._travels: dict[int, list[_Span]] = {}
        self._ends: list[tuple[str, int, str, int]] = []
        self._rows = 0
        self.dropped = 0

    def begin(self) -> None:
        """Starts an attempt, and drops the spans of the attempt before, which are of the same steps."""
        self._spans.clear()
        self._travels.clear()
        self._ends.clear()
        self._rows = 0

    def take(self, message: Mapping[str, Any]) -> None:
        """Records a message. Malformed rows are ignored."""
        with suppress(*_MALFORMED):
            replica = int(message["replica"])
            self._hosts[replica] = str(message["host"])[:_LONGEST]
            origin = int(message["origin"])
            for row in message["rows"]:
                if self._rows == _MOST:
                    self.dropped += 1
                    continue
                self._rows += 1
                with suppress(*_MALFORMED):
                    self._row(replica, row, origin)

    def _row(self, replica: int, row: list[Any], origin: int) -> None:
        if row[0] in ("s", "f"):
            self._ends.append((row[0], replica, str(row[1])[:_LONGEST], origin + _nanoseconds(row[2])))
            return
        kind, name, begin, length, arguments = row
        span = (
            str(name)[:_LONGEST],
            origin + _nanoseconds(begin),
            max(0, _nanoseconds(length)),
            dict(arguments),
        )
        (self._spans if kind == "X" else self._travels).setdefault(replica, []).append(span)

    def text(self, record: JobRecord) -> str:
        """The trace as JSON."""
        first, stop = self._steps
        about = {
            "program": record.program,
            "command": record.command,
            "steps": f"{first} to {stop - 1}",
            "dropped spans": self.dropped,
        }
        trace = {"displayTimeUnit": "ms", "otherData": about, "traceEvents": self._events()}
        return json.dumps(trace, separators=(",", ":"), allow_nan=False)

    def _events(self) -> list[dict[str, Any]]:
        rows = [span for kept in (self._spans, self._travels) for spans in kept.values() for span in spans]
        origin = min((begin for _, begin, _, _ in rows), default=0)
        events: list[dict[str, Any]] = []
        for replica in sorted(self._spans.keys() | self._travels.keys()):
            events += _names(replica, self._hosts.get(replica, ""))
            for name, begin, length, arguments in sorted(self._spans.get(replica, []), key=_order):
                events.append(_complete(replica, _OWN, name, begin - origin, length, arguments))
            lanes: list[int] = []
            for name, begin, length, arguments in sorted(self._travels.get(replica, []), key=_order):
                lane = next((k for k, free in enumerate(lanes) if free <= begin), len(lanes))
                lanes[lane : lane + 1] = [begin + length]
                events.append(_complete(replica, _WIRE + lane, name, begin - origin, length, arguments))
            events += [_thread(replica, _WIRE + k, f"wire {k + 1}") for k in range(len(lanes))]
        return events + list(self._arrows(origin))

    def _arrows(self, origin: int) -> Iterable[dict[str, Any]]:
        """The events of arrows whose two ends are known, from the sending to the receiving program."""
        sent = {name: (replica, at) for kind, replica, name, at in self._ends if kind == "s"}
        for kind, replica, name, at in self._ends:
            if kind == "f" and name in sent:
                sender, begin = sent[name]
                common = {"cat": "message", "name": "message", "id": name, "tid": _OWN}
                yield {**common, "ph": "s", "pid": sender, "ts": _microseconds(begin - origin)}
                # The clocks of hosts differ by some microseconds, but an arrow must not point back in time.
                yield {
                    **common,
                    "ph": "f",
                    "bp": "e",
                    "pid": replica,
                    "ts": _microseconds(max(at, begin) - origin),
                }


def _order(span: _Span) -> tuple[int, int]:
    """Sort key: by begin, and outer spans before inner ones."""
    return span[1], -span[2]


def _complete(
    replica: int, thread: int, name: str, begin: int, length: int, arguments: Mapping[str, Any]
) -> dict[str, Any]:
    event = {
        "ph": "X",
        "pid": replica,
        "tid": thread,
        "name": name,
        "cat": "wire" if thread >= _WIRE else "step",
        "ts": _microseconds(begin),
        "dur": _microseconds(length),
        "args": dict(arguments),
    }
    if name in _COLOURS:
        event["cname"] = _COLOURS[name]
    return event


def _names(replica: int, host: str) -> list[dict[str, Any]]:
    name = f"replica {replica}" + (f" on {host}" if host else "")
    return [
        {"ph": "M", "pid": replica, "tid": 0, "name": "process_name", "args": {"name": name}},
        {"ph": "M", "pid": replica, "tid": 0, "name": "process_sort_index", "args": {"sort_index": replica}},
        _thread(replica, _OWN, "program"),
    ]


def _thread(replica: int, thread: int, name: str) -> dict[str, Any]:
    return {"ph": "M", "pid": replica, "tid": thread, "name": "thread_name", "args": {"name": name}}


def _nanoseconds(microseconds: Any) -> int:
    """Converts to nanoseconds; ValueError or OverflowError if it is not a finite number."""
    return round(float(microseconds) * 1000)


def _microseconds(nanoseconds: int) -> float:
    return nanoseconds / 1000
