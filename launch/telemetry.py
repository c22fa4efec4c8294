"""Telemetry: messages from a running job to distoptrun, if it asks for them. Each message is a JSON object.

The kinds of messages, and their members:
    host: host, cores, threads; once, from each supervisor.
    usage: rss (bytes), cpu (seconds so far); once a second, from each supervisor.
    steps: see `ledger_feed`; from the supervisor of each node's first replica.
    metrics: step, values (name -> number); from the program.
    pipeline: text; from replica 0.
    checkpoint: step, seconds, path; from replica 0.
    spans: see `timeline`; from each replica.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from .protocol import Event

#: The largest size of a message in bytes of JSON, so that its line is one atomic write to a pipe.
LONGEST = 3000


@dataclass(frozen=True)
class Wishes:
    """The telemetry that distoptrun asks for.

    Attributes:
        telemetry: whether it asks for messages other than ``spans``.
        timeline: the range of steps ``(first, stop)`` whose spans it asks for; None for no spans.
    """

    telemetry: bool = False
    timeline: tuple[int, int] | None = None

    def __str__(self) -> str:
        """The value of the variable `environment.WISHES`; "" for no telemetry."""
        words = ["telemetry"] if self.telemetry or self.timeline else []
        return " ".join(
            [*words, *(f"timeline={first}:{stop}" for first, stop in filter(None, [self.timeline]))]
        )


def message(rank: int, kind: str, **members: Any) -> Event | None:
    """A message as an event; None if it is too long."""
    text = json.dumps({"kind": kind, **members}, separators=(",", ":"))
    return Event("telemetry", rank, (text,)) if len(text) <= LONGEST else None


def parsed(event: Event) -> dict[str, Any] | None:
    """The message in an event; None if it is malformed, because the program could have written anything."""
    if event.kind != "telemetry" or not event.values:
        return None
    try:
        found = json.loads(event.values[0])
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and isinstance(found.get("kind"), str) else None
