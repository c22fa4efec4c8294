"""What a replica tells distoptrun as it runs, if that has asked for it; a line of JSON a message.

``launch/telemetry.py`` lists the kinds of messages. Without distoptrun, or if it has no wishes, nothing is
sent.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from typing import Any

from distopt import launched

__all__ = ["MetricsLog", "Telemetry"]

#: Bytes of a message's JSON at most, so that its line is one atomic write to a pipe.
LONGEST = 3000
#: Seconds between two messages of metrics.
_EVERY = 0.1


class Telemetry:
    """Sends messages.

    Attributes:
        wanted: whether anybody takes them.
    """

    def __init__(self) -> None:
        channel = launched.telemetry()
        self._descriptor, self._rank = channel or (-1, -1)
        self._pid = os.getpid()
        self.wanted = channel is not None

    def send(self, kind: str, **members: Any) -> None:
        """Sends a message; a text that is too long is cut, anything else too long is left out."""
        if not self.wanted or os.getpid() != self._pid:
            return
        line = self._line(kind, members)
        if len(line) > LONGEST and isinstance(members.get("text"), str):
            # A character takes six bytes at most.
            line = self._line(kind, {**members, "text": members["text"][: (LONGEST - 200) // 6]})
        if len(line) <= LONGEST + 40:
            try:
                os.write(self._descriptor, line)
            except OSError:  # the launcher is gone; there still is the program
                self.wanted = False

    def _line(self, kind: str, members: Mapping[str, Any]) -> bytes:
        text = json.dumps({"kind": kind, **members}, separators=(",", ":"))
        return f"telemetry {self._rank} {text}\n".encode()


class MetricsLog:
    """Sends metrics, averaged over a tenth of a second, since a program may log every step.

    Args:
        telemetry: sends messages.
        clock: the time, in seconds.
    """

    def __init__(self, telemetry: Telemetry, clock: Callable[[], float] = time.monotonic) -> None:
        self._telemetry, self._clock = telemetry, clock
        self._sums: dict[str, tuple[float, int]] = {}
        self._step, self._sent = 0, -_EVERY

    def add(self, metrics: Mapping[str, float], step: int) -> None:
        """Adds numbers of a step."""
        for name, value in metrics.items():
            total, count = self._sums.get(name, (0.0, 0))
            self._sums[name] = total + float(value), count + 1
        self._step = step
        if self._clock() - self._sent >= _EVERY:
            self.flush()

    def flush(self) -> None:
        """Sends what has not been sent."""
        if self._sums:
            values = {name: total / count for name, (total, count) in self._sums.items()}
            self._telemetry.send("metrics", step=self._step, values=values)
        self._sums, self._sent = {}, self._clock()
