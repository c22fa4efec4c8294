"""Telemetry: what a job tells its launcher as it runs, if the launcher has wishes; a JSON object a message.

Messages, by ``kind``, each with further members:
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

#: Bytes of a message's JSON at most, so that its line is one atomic write to a pipe.
LONGEST = 3000


@dataclass(frozen=True)
class Wishes:
    """What the launcher wants to be told.

    Attributes:
        telemetry: whether it wants any messages.
        timeline: the first of the steps whose spans it wants, and the one to stop before; None for none.
    """

    telemetry: bool = False
    timeline: tuple[int, int] | None = None

    def __str__(self) -> str:
        """As the variable `environment.WISHES`; empty for none."""
        words = ["telemetry"] if self.telemetry or self.timeline else []
        return " ".join(
            [*words, *(f"timeline={first}:{stop}" for first, stop in filter(None, [self.timeline]))]
        )


def message(rank: int, kind: str, **members: Any) -> Event | None:
    """A message as an event; None if it would be too long."""
    text = json.dumps({"kind": kind, **members}, separators=(",", ":"))
    return Event("telemetry", rank, (text,)) if len(text) <= LONGEST else None


def parsed(event: Event) -> dict[str, Any] | None:
    """The message in an event; None for anything else, since the program can write what it likes."""
    if event.kind != "telemetry" or not event.values:
        return None
    try:
        found = json.loads(event.values[0])
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and isinstance(found.get("kind"), str) else None
