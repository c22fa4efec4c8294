"""``--timeline``: what each replica did when, as Chrome trace events, for ui.perfetto.dev.

A message of kind ``spans`` holds a replica's number, its host's name, an origin in nanoseconds, and rows of
some kinds, with times in microseconds after it, by one clock for all of the job as well as clocks agree:

    ["X", name, begin, length, arguments]   a span of the program's thread; spans may lie in one another.
    ["W", name, begin, length, arguments]   a message on its way; several may be at once.
    ["s", id, time] and ["f", id, time]     it was sent, and it has come: the two ends of an arrow.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

from .job_record import JobRecord

#: Rows that are kept at most: some 200 MB of JSON.
_MOST = 1_000_000
_LONGEST = 300  # characters of a name
#: What a malformed message raises.
_MALFORMED = (KeyError, TypeError, ValueError, IndexError, OverflowError)
_OWN, _WIRE = 1, 2
#: Name, begin and length in nanoseconds, and arguments.
_Span = tuple[str, int, int, Mapping[str, Any]]
#: Colours of Chrome's palette by the span's name.
_COLOURS = {
    "own code": "thread_state_running",
    "waiting": "thread_state_iowait",
    "sum and update": "good",
    "input": "thread_state_runnable",
    "saving": "rail_load",
    "wire": "rail_animation",
}


class Timeline:
    """Collects spans, and gives the trace.

    Args:
        steps: the first step and the one to stop before, which the spans come from.
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
        """An attempt begins: what the one before has recorded is of the same steps, so it is dropped."""
        self._spans.clear()
        self._travels.clear()
        self._ends.clear()
        self._rows = 0

    def take(self, message: Mapping[str, Any]) -> None:
        """Takes a message; malformed rows are passed over."""
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
        """Arrows of which both ends are known, from the thread that sent to the one that took in."""
        sent = {name: (replica, at) for kind, replica, name, at in self._ends if kind == "s"}
        for kind, replica, name, at in self._ends:
            if kind == "f" and name in sent:
                sender, begin = sent[name]
                common = {"cat": "message", "name": "message", "id": name, "tid": _OWN}
                yield {**common, "ph": "s", "pid": sender, "ts": _microseconds(begin - origin)}
                # Clocks of hosts agree to some microseconds only: an arrow never points back in time.
                yield {
                    **common,
                    "ph": "f",
                    "bp": "e",
                    "pid": replica,
                    "ts": _microseconds(max(at, begin) - origin),
                }


def _order(span: _Span) -> tuple[int, int]:
    """By begin, the outer ones first."""
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
    """Raises ValueError or OverflowError if it is no finite number."""
    return round(float(microseconds) * 1000)


def _microseconds(nanoseconds: int) -> float:
    return nanoseconds / 1000
